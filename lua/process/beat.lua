-- process/beat
-- @version 1
-- The supervisor's sign of life, for a process that is neither stopped nor over.
-- A process that ended, or was declared dead, is not revived: ENDED tells the
-- supervisor to put an end to it.
-- KEYS[1] record    hash
-- KEYS[2] objects   set: what the process refers to
-- ARGV[1] ttl       ms the record outlives its last heartbeat
-- Reply OK | ENDED code | GONE
--- @include now
local record, objects, ttl = KEYS[1], KEYS[2], ARGV[1]
local s = redis.call('HMGET', record, 'state', 'code')
if not s[1] then return {'GONE'} end
if s[1] == 'ended' then return {'ENDED', s[2]} end
redis.call('HSET', record, 'beat', now())
redis.call('PEXPIRE', record, ttl)
redis.call('PEXPIRE', objects, ttl)
return {'OK'}
