-- list/take
-- @version 1
-- Take an element out and, unless it is not wanted, answer with it.
-- KEYS[1] state     hash
-- KEYS[2] items     list of elements
-- KEYS[3] trash     list: what goes with the last reader
-- KEYS[4] blobs     set: elements that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] what      pop or drop
-- ARGV[4] index     from the end if it is negative
-- Reply (TOOK element | REMOVED | MISSING size) [freed] | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
--- @include now, store, list, splice
local keys, client, seq, what, index = KEYS, ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local c, answer = opened(keys, client, seq, '')
if not c then return answer end
if index < 0 then index = index + c.size end
if index < 0 or index >= c.size then return done(c, {'MISSING', c.size}) end
local element = redis.call('LINDEX', c.items, index)
splice(c, index, index + 1, {})
if what == 'drop' then
  let_go(c, element)
  return done(c, {'REMOVED'})
end
local large = hand_out(c, element)
return done(c, {'TOOK', element}, large)
