-- list/order
-- @version 1
-- Put the elements in another order.
-- KEYS[1] state     hash
-- KEYS[2] items     list of elements
-- KEYS[3] trash     list: what goes with the last reader
-- KEYS[4] blobs     set: elements that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] version   of the list that the caller has seen; empty if any will do
-- ARGV[4] places    msgpack array: for each new place the old one; empty to turn it round
-- Reply (OK | CHANGED) [freed] | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
--- @include now, store, list
local keys, client, seq, version, places = KEYS, ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local c, answer = opened(keys, client, seq, version)
if not c then return answer end
local old, new = redis.call('LRANGE', c.items, 0, -1), {}
if places == '' then
  for i = c.size, 1, -1 do new[#new + 1] = old[i] end
else
  for i, place in ipairs(cmsgpack.unpack(places)) do new[i] = old[place + 1] end
end
redis.call('DEL', c.items)
push(c, new)
c.version = c.version + 1
return done(c, {'OK'})
