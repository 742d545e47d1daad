-- dict/set
-- @version 1
-- Enter a value under a key.
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
-- Reply (SET | ADDED | CHANGED) [freed] | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I19 a dict has as many keys in its order as entries, and its state says how many
local keys, client, seq, others = KEYS, ARGV[1], ARGV[2], ARGV[3]
local object, key, element = ARGV[4], ARGV[5], ARGV[6]

local state, mine, kind = keys[1], 'r:' .. client, string.byte(element)
local s = redis.call('HMGET', state, 'fmt', 'rich', 'open', mine)
-- The way of a first request with a plain key and value comes before any function is defined.
if s[1] == 'dict/1' and not (s[4] and s[4] >= seq) and s[2] == '0' and s[3] == '' and object == ''
    and kind ~= 114 and (kind < 49 or kind > 52) then
  local entries = keys[2]
  if redis.call('HSET', entries, key, element) == 0 then
    redis.call('HSET', state, mine, seq .. 'S')
    return 'SET'
  end
  local more = redis.call('HMGET', state, 'size', 'n', 'ttl')
  local size, n = more[1] + 1, more[2] + 1
  if redis.call('HLEN', entries) ~= size then
    redis.call('HDEL', entries, key)
    return {'GONE'}
  end
  redis.call('ZADD', keys[3], n, key)
  redis.call('HSET', state, 'size', size, 'n', n, mine, seq .. 'A')
  if size == 1 then
    redis.call('PEXPIRE', entries, more[3])
    redis.call('PEXPIRE', keys[3], more[3])
  end
  return 'ADDED'
end

--- @include now, store, dict
local c, answer = opened(keys, client, seq, others)
if not c then return answer end
return done(c, {enter(c, key, element, object) and 'ADDED' or 'SET'})
