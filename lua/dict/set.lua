-- dict/set
-- @version 1
-- Enter a value under a key, whatever either is.
-- KEYS[1] state     hash, see README
-- KEYS[2] entries   hash: key -> element
-- KEYS[3] order     sorted set: key, by when it was new
-- KEYS[4] objects   hash: key -> the object it was, if the key does not say
-- KEYS[5] trash     list: what goes with the last reader
-- KEYS[6] blobs     set: elements that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request; 12 digits
-- ARGV[3] others    count of changes of keys that only the client can compare; empty if
--                   this one is not of them
-- ARGV[4] object    what the key was, pickled; empty if the key says it
-- ARGV[5] key       bytes that are the same for equal objects
-- ARGV[6] element   the value
-- Reply SET [pin object ...] | ADDED | CHANGED | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I19 a dict has as many keys in its order as entries, and its state says how many
local keys, client, seq, others = KEYS, ARGV[1], ARGV[2], ARGV[3]
local object, key, element = ARGV[4], ARGV[5], ARGV[6]

--- @include now, store, dict
local c, answer = opened(keys, client, seq, others)
if not c then return answer end
return done(c, {enter(c, key, element, object) and 'ADDED' or 'SET'})
