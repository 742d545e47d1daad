-- dict/swap
-- @version 1
-- Enter a value if the one that is there is the one that the caller has seen; or, with
-- nothing expected, if there is none.
-- KEYS[1] state     hash
-- KEYS[2] entries   hash: key -> element
-- KEYS[3] order     sorted set: key, by when it was new
-- KEYS[4] objects   hash: key -> the object it was, if the key does not say
-- KEYS[5] trash     list: what goes with the last reader
-- KEYS[6] blobs     set: elements that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] others    count of changes of keys that only the client can compare; or empty
-- ARGV[4] key       bytes
-- ARGV[5] expected  element; empty for none
-- ARGV[6] element   the new value
-- ARGV[7] object    what the key was, pickled; empty if the key says it
-- Reply (SWAPPED | VALUE element | MISSING | CHANGED) [freed] | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I19 a dict has as many keys in its order as entries, and its state says how many
--- @include now, store, dict
local keys, client, seq, others = KEYS, ARGV[1], ARGV[2], ARGV[3]
local key, expected, element, object = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local c, answer = opened(keys, client, seq, others)
if not c then return answer end
local found = redis.call('HGET', c.entries, key)
if (found or '') == expected then
  enter(c, key, element, object)
  return done(c, {'SWAPPED'})
end
return done(c, found and {'VALUE', found} or {'MISSING'})
