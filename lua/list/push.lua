-- list/push
-- @version 1
-- Add elements at the end.
-- KEYS[1] state     hash, see README
-- KEYS[2] items     list of elements
-- KEYS[3] trash     list: what goes with the last reader
-- KEYS[4] blobs     set: elements that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request; 12 digits
-- ARGV[3] more      msgpack array of further elements; or empty
-- ARGV[4] element   the first one
-- Reply ADDED [freed] | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
local keys, client, seq, more, element = KEYS, ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local state, mine, kind = keys[1], 'r:' .. client, string.byte(element)
local s = redis.call('HMGET', state, 'fmt', 'version', 'size', 'mixed', 'rich', 'open', mine)
-- The way of a first request with one plain element comes before any function is defined.
if s[1] == 'list/1' and not (s[7] and s[7] >= seq) and s[5] == '0' and s[6] == '' and more == ''
    and (kind > 96 and kind ~= 114 or kind == 48 and s[4] == '1') then
  local items, size = keys[2], s[3] + 1
  if redis.call('RPUSH', items, element) ~= size then
    redis.call('RPOP', items)
    return {'GONE'}
  end
  redis.call('HSET', state, 'version', s[2] + 1, 'size', size, mine, seq .. 'A')
  if size == 1 then redis.call('PEXPIRE', items, redis.call('HGET', state, 'ttl')) end
  return 'ADDED'
end

--- @include now, store, list
local c, answer = opened(keys, client, seq, '')
if not c then return answer end
local elements = more == '' and {} or cmsgpack.unpack(more)
table.insert(elements, 1, element)
arrive(c, elements)
push(c, elements)
c.version = c.version + 1
return done(c, {'ADDED'})
