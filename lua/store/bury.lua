-- store/bury
-- @version 1
-- A process has ended: it reads no more, and asks no more for what it took.
-- KEYS[1] state     hash
-- KEYS[2] trash     list: what goes with the last reader
-- KEYS[3] blobs     set: elements that have keys of their own
-- ARGV[1] process   that ended
-- Reply BURIED [pin object ...] | GONE | VERSION fmt
-- I3 repeating a request changes nothing
--- @include now, store
local state, trash, blobs, process = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local s = redis.call('HMGET', state, 'fmt', 'ttl', 'open')
-- What a batch is about to enter is nobody's business here.
if s[1] ~= 'dict/1' and s[1] ~= 'dict/1 merging' and s[1] ~= 'list/1' then
  return s[1] and {'VERSION', s[1]} or {'GONE'}
end
local c = {
  state = state, trash = trash, blobs = blobs, ttl = s[2], readers = readers_of(s[3]), freed = {},
}
close(c, process)
-- Bounded by the fields of the state.
for _, field in ipairs(redis.call('HKEYS', state)) do
  if string.match(field, '^r:([^.]+)') == process then
    local last = redis.call('HGET', state, field)
    forget(c, last)
    redis.call('HSET', state, field, (string.gsub(last, '^(%d+)L', '%1X')))
  end
end
table.insert(c.freed, 1, 'BURIED')
return c.freed
