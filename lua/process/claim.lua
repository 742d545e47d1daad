-- process/claim
-- @version 1
-- A function takes it upon itself to run a process. Platforms may run a call
-- twice, and a process may be placed again if a function does not answer, so
-- only the first to claim it runs it.
-- KEYS[1] record    hash
-- ARGV[1] function  who claims
-- ARGV[2] host      it runs on
-- ARGV[3] ttl       ms
-- Reply CLAIMED | TAKEN | ENDED code | GONE
--- @include now
local record = KEYS[1]
local by, host, ttl = ARGV[1], ARGV[2], ARGV[3]
local s = redis.call('HMGET', record, 'state', 'function', 'code')
if not s[1] then return {'GONE'} end
if s[1] == 'ended' then return {'ENDED', s[3]} end
if s[2] and s[2] ~= by then return {'TAKEN'} end
redis.call('HSET', record, 'state', 'running', 'function', by, 'host', host, 'beat', now())
redis.call('PEXPIRE', record, ttl)
return {'CLAIMED'}
