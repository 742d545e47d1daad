-- A change of a list. `keys` are state, items, trash, blobs.
-- What it is about, or nil and the answer.
local function opened(keys, client, seq, version)
  local s = redis.call('HMGET', keys[1], 'fmt', 'ttl', 'version', 'size', 'mixed', 'rich', 'open',
                       'r:' .. client)
  if s[1] ~= 'list/1' then return nil, s[1] and {'VERSION', s[1]} or {'GONE'} end
  local again = replayed(s[8], seq)
  if again then return nil, again end
  if redis.call('LLEN', keys[2]) ~= tonumber(s[4]) then return nil, {'GONE'} end
  local c = {
    state = keys[1], items = keys[2], trash = keys[3], blobs = keys[4], client = client, seq = seq,
    ttl = s[2], version = s[3], size = tonumber(s[4]), mixed = s[5], rich = s[6],
    readers = readers_of(s[7]), freed = {},
  }
  if s[7] ~= '' and not next(c.readers) then empty_trash(c) end
  forget(c, s[8])
  if version ~= '' and version ~= s[3] then return nil, finish(c, {'CHANGED'}) end
  return c
end
-- What equals a value can be said here of numbers, texts, bytes, None, True and False only.
local SIMPLE = {[105] = 1, [100] = 1, [115] = 1, [98] = 1, [110] = 1, [116] = 1, [102] = 1}
-- New elements are about to be in the list.
local function arrive(c, elements)
  for _, element in ipairs(elements) do
    keep(c, element)
    if not SIMPLE[string.byte(element)] then c.mixed = '1' end
  end
end
-- Add elements at an end, a page at a time: Lua passes only so many on.
local function push(c, elements, first)
  for i = 1, #elements, 1000 do
    redis.call(first and 'LPUSH' or 'RPUSH', c.items, unpack(elements, i, math.min(#elements, i + 999)))
  end
end
local function done(c, reply, large)
  redis.call('PEXPIRE', c.items, c.ttl)
  local size = redis.call('LLEN', c.items)
  redis.call('HSET', c.state, 'version', c.version, 'size', size, 'mixed', size > 0 and c.mixed or '0')
  return finish(c, reply, large)
end
