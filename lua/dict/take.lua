-- dict/take
-- @version 1
-- Delete an entry and, unless it is not wanted, answer with it.
-- KEYS[1] state     hash
-- KEYS[2] entries   hash: key -> element
-- KEYS[3] order     sorted set: key, by when it was new
-- KEYS[4] objects   hash: key -> the object it was, if the key does not say
-- KEYS[5] trash     list: what goes with the last reader
-- KEYS[6] blobs     set: elements that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] others    count of changes of keys that only the client can compare; or empty
-- ARGV[4] what      pop, last (the entry that was new last), or drop
-- ARGV[5] key       bytes; empty with last
-- Reply (TOOK element key object | REMOVED | MISSING | CHANGED) [freed]
-- Reply STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I19 a dict has as many keys in its order as entries, and its state says how many
--- @include now, store, dict
local keys, client, seq, others = KEYS, ARGV[1], ARGV[2], ARGV[3]
local what, key = ARGV[4], ARGV[5]
local c, answer = opened(keys, client, seq, others)
if not c then return answer end
if what == 'last' then key = redis.call('ZREVRANGE', c.order, 0, 0)[1] end
local element = key and redis.call('HGET', c.entries, key)
if not element then return done(c, {'MISSING'}) end
if what == 'drop' then
  strike(c, key)
  let_go(c, element)
  return done(c, {'REMOVED'})
end
local object = redis.call('HGET', c.objects, key) or ''
strike(c, key)
local large = hand_out(c, element)
return done(c, {'TOOK', element, key, object}, large)
