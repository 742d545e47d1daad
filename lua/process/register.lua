-- process/register
-- @version 1
-- Write the record of a process. One that exists already (a function claimed it,
-- or this request is asked again) keeps its state.
-- KEYS[1] record    hash, see README
-- ARGV[1] ttl       ms the record outlives its last heartbeat
-- ARGV[2] state     starting, or running for a program that registers itself
-- ARGV[3] lease     ms without a heartbeat after which it is taken for dead
-- ARGV[4] fields    msgpack map: name, parent, program, pid, host ...
-- Reply OK
--- @include now
local record = KEYS[1]
local ttl, state, lease, fields = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('EXISTS', record) == 0 then
  local flat = {'fmt', 'process/1', 'state', state, 'lease', lease, 'beat', now()}
  for name, value in pairs(cmsgpack.unpack(fields)) do
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  redis.call('HSET', record, unpack(flat))
end
redis.call('PEXPIRE', record, ttl)
return {'OK'}
