-- process/beat
-- @version 1
-- The supervisor's sign of life. Of a process that is stopped it only says that
-- it is being looked after. A process that ended, or was declared dead, is not
-- revived: ENDED tells the supervisor to put an end to it.
-- KEYS[1] record    hash
-- KEYS[2] objects   set: what the process refers to
-- KEYS[3] children  set
-- KEYS[4] control   stream
-- KEYS[5] inbox     stream
-- KEYS[6] seen      hash
-- ARGV[1] ttl       ms all of them outlive the last heartbeat
-- ARGV[2] frozen    1 if the process is stopped
-- Reply OK | ENDED code | GONE
--- @include now
local record, ttl, frozen = KEYS[1], ARGV[1], ARGV[2]
local s = redis.call('HMGET', record, 'state', 'code')
if not s[1] then return {'GONE'} end
if s[1] == 'ended' then return {'ENDED', s[2]} end
local at = now()
redis.call('HSET', record, 'kept', at)
if frozen == '0' then redis.call('HSET', record, 'beat', at) end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ttl) end
return {'OK'}
