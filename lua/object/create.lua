-- object/create
-- @version 1
-- Write the first state of an object and its first reference. Names are random,
-- so an object that exists is this very request, asked again.
-- KEYS[1] state     hash
-- KEYS[2] refs      sorted set: who refers to the object -> until when (ms), or +inf
-- ARGV[1] fmt       family/format version
-- ARGV[2] ttl       ms the object outlives its last living user
-- ARGV[3] process   that creates it
-- ARGV[4] fields    msgpack array: names and values of the other fields, the busiest
--                   first (a small hash is searched from its start)
-- Reply OK
local state, refs = KEYS[1], KEYS[2]
local fmt, ttl, process, fields = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('EXISTS', state) == 0 then
  redis.call('HSET', state, 'fmt', fmt, unpack(cmsgpack.unpack(fields)))
  redis.call('HSET', state, 'ttl', ttl)
  redis.call('ZADD', refs, '+inf', process)
  redis.call('PEXPIRE', state, ttl)
  redis.call('PEXPIRE', refs, ttl)
end
return {'OK'}
