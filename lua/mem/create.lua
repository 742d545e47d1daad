-- mem/create
-- @version 1
-- Write the first state of a region, its bytes, and its first reference. Names are
-- random, so a region that exists is this very request, asked again.
-- KEYS[1] state     hash
-- KEYS[2] refs      sorted set: who refers to the object -> until when (ms), or +inf
-- KEYS[3] items     string: the bytes
-- ARGV[1] fmt       family/format version
-- ARGV[2] ttl       ms the object outlives its last living user
-- ARGV[3] process   that creates it
-- ARGV[4] fields    msgpack array: names and values of the other fields
-- ARGV[5] size      how many bytes
-- ARGV[6] bytes     empty if all are zero, or are there already
-- Reply OK
local state, refs, items = KEYS[1], KEYS[2], KEYS[3]
local fmt, ttl, process, fields, size, bytes = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if redis.call('EXISTS', state) == 1 then return {'OK'} end
redis.call('HSET', state, 'fmt', fmt, unpack(cmsgpack.unpack(fields)))
redis.call('HSET', state, 'ttl', ttl)
redis.call('ZADD', refs, '+inf', process)
if bytes ~= '' then
  redis.call('SET', items, bytes)
elseif size ~= '0' and redis.call('EXISTS', items) == 0 then
  redis.call('SETRANGE', items, size - 1, '\0')
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ttl) end
return {'OK'}
