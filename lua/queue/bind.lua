-- queue/bind
-- @version 1
-- Take an address: a queue whose name follows from it, in which connections wait to be
-- accepted. It is free again when the queue is deleted, with the last process that
-- refers to it.
-- KEYS[1] state     hash
-- KEYS[2] refs      sorted set: who refers to the object -> until when (ms), or +inf
-- ARGV[1] fmt       family/format version
-- ARGV[2] ttl       ms the object outlives its last living user
-- ARGV[3] process   that creates it
-- ARGV[4] fields    msgpack array: names and values of the other fields
-- ARGV[5] owner     "process request": whose address it is
-- Reply OK | TAKEN owner
local state, refs = KEYS[1], KEYS[2]
local fmt, ttl, process, fields, owner = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if redis.call('EXISTS', state) == 1 then
  local bound = redis.call('HGET', state, 'owner')
  return bound == owner and {'OK'} or {'TAKEN', bound}
end
redis.call('HSET', state, 'fmt', fmt, unpack(cmsgpack.unpack(fields)))
redis.call('HSET', state, 'ttl', ttl, 'owner', owner)
redis.call('ZADD', refs, '+inf', process)
redis.call('PEXPIRE', state, ttl)
redis.call('PEXPIRE', refs, ttl)
return {'OK'}
