-- dict/enter
-- @version 1
-- Enter the next page of the batch, if there is one. Whoever repeats it is only further on.
-- KEYS[1] state     hash
-- KEYS[2] entries   hash: key -> element
-- KEYS[3] order     sorted set: key, by when it was new
-- KEYS[4] objects   hash: key -> the object it was, if the key does not say
-- KEYS[5] trash     list: what goes with the last reader
-- KEYS[6] blobs     set: elements that have keys of their own
-- Reply MORE [freed] | ENTERED [freed] | GONE | VERSION fmt
-- I19 a dict has as many keys in its order as entries, and its state says how many
--- @include now, store, dict
local state, entries, order, objects, trash, blobs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local s = redis.call('HMGET', state, 'fmt', 'ttl', 'size', 'n', 'others', 'rich', 'open', 'merge')
if s[1] == 'dict/1' then return {'ENTERED'} end
if s[1] ~= 'dict/1 merging' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local client, seq, page, added = string.match(s[8], '^(.+):(%d+) (%d+) (%d+)$')
local batch = state .. ':b:' .. client .. ':' .. seq
local c = {
  state = state, entries = batch .. ':1', order = order, objects = objects, trash = trash,
  blobs = blobs, ttl = s[2], size = tonumber(s[3]), n = s[4], others = s[5], rich = s[6],
  readers = readers_of(s[7]), freed = {},
}
local packed = redis.call('HGET', batch .. ':0', page)
if not packed or redis.call('HLEN', c.entries) ~= c.size then return {'GONE'} end
local new = cmsgpack.unpack(packed)
-- Bounded by a page.
for i = 1, #new, 3 do
  if enter(c, new[i], new[i + 1], new[i + 2]) then added = added + 1 end
end
page = page + 1
redis.call('HSET', state, 'size', c.size, 'n', c.n, 'others', c.others, 'rich', c.rich,
           'merge', string.format('%s:%s %d %d', client, seq, page, added))
local word = 'MORE'
if page == redis.call('HLEN', batch .. ':0') then
  word = 'ENTERED'
  redis.call('RENAME', c.entries, entries)
  redis.call('UNLINK', batch .. ':0')
  redis.call('SREM', blobs, '2:' .. client .. ':' .. seq)
  redis.call('HDEL', state, 'merge')
  redis.call('HSET', state, 'fmt', 'dict/1')
  -- Whoever brought the batch asks once more, and is told how many keys were new.
  local last = redis.call('HGET', state, 'r:' .. client)
  if last and string.sub(last, 1, 12) == seq then
    redis.call('HSET', state, 'r:' .. client, seq .. 'X' .. cmsgpack.pack({'OK', tonumber(added)}))
  end
end
return freeing(c, {word})
