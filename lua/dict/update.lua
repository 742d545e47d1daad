-- dict/update
-- @version 1
-- Enter several values at once.
-- KEYS[1] state     hash
-- KEYS[2] entries   hash: key -> element
-- KEYS[3] order     sorted set: key, by when it was new
-- KEYS[4] objects   hash: key -> the object it was, if the key does not say
-- KEYS[5] trash     list: what goes with the last reader
-- KEYS[6] blobs     set: elements that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] others    count of changes of keys that only the client can compare; or empty
-- ARGV[4] entries   msgpack array: key, element, object (empty if the key says it), ...
-- Reply (OK added | CHANGED) [freed] | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I19 a dict has as many keys in its order as entries, and its state says how many
--- @include now, store, dict
local keys, client, seq, others = KEYS, ARGV[1], ARGV[2], ARGV[3]
local new = cmsgpack.unpack(ARGV[4])
local c, answer = opened(keys, client, seq, others)
if not c then return answer end
local added = 0
-- Bounded by what the request brings.
for i = 1, #new, 3 do
  if enter(c, new[i], new[i + 1], new[i + 2]) then added = added + 1 end
end
return done(c, {'OK', added})
