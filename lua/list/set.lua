-- list/set
-- @version 1
-- Put an element in the place of another one.
-- KEYS[1] state     hash
-- KEYS[2] items     list of elements
-- KEYS[3] trash     list: what goes with the last reader
-- KEYS[4] blobs     set: elements that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request; 12 digits
-- ARGV[3] index     from the end if it is negative
-- ARGV[4] element   the new one
-- Reply (SET | MISSING) [freed] | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
local keys, client, seq, index, element = KEYS, ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]

local state, mine, kind = keys[1], 'r:' .. client, string.byte(element)
local s = redis.call('HMGET', state, 'fmt', 'version', 'size', 'mixed', 'rich', 'open', mine)
-- The way of a first request with a plain element comes before any function is defined.
if s[1] == 'list/1' and not (s[7] and s[7] >= seq) and s[5] == '0' and s[6] == ''
    and (kind > 96 and kind ~= 114 or kind == 48 and s[4] == '1')
    and index < tonumber(s[3]) and index >= -s[3] then
  if redis.call('EXISTS', keys[2]) == 0 then return {'GONE'} end
  redis.call('LSET', keys[2], index, element)
  redis.call('HSET', state, 'version', s[2] + 1, mine, seq .. 'S')
  return 'SET'
end

--- @include now, store, list
local c, answer = opened(keys, client, seq, '')
if not c then return answer end
local old = redis.call('LINDEX', c.items, index)
if not old then return done(c, {'MISSING'}) end
arrive(c, {element})
redis.call('LSET', c.items, index, element)
let_go(c, old)
c.version = c.version + 1
return done(c, {'SET'})
