-- list/times
-- @version 1
-- Have the elements several times, one after the other.
-- KEYS[1] state     hash
-- KEYS[2] items     list of elements
-- KEYS[3] trash     list: what goes with the last reader
-- KEYS[4] blobs     set: elements that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] count     how often; none if it is below 1
-- Reply (OK | LOOK) [freed] | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
--- @include now, store, list
local keys, client, seq, count = KEYS, ARGV[1], ARGV[2], tonumber(ARGV[3])
local c, answer = opened(keys, client, seq, '')
if not c then return answer end
-- What has keys of its own, or refers to something, is to have more of them for each.
if c.rich == '1' then return done(c, {'LOOK'}) end
local elements = redis.call('LRANGE', c.items, 0, -1)
if count < 1 then redis.call('DEL', c.items) end
for _ = 2, count do push(c, elements) end
c.version = c.version + 1
return done(c, {'OK'})
