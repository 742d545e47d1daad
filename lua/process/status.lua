-- process/status
-- @version 1
-- Is a process alive, by the server's clock? A process that has not been claimed
-- by a function yet counts as alive: it holds nothing.
-- KEYS[1] record    hash
-- Reply STARTING | RUNNING pid | LAPSED silence_ms name | ENDED code name | GONE
--- @include now
local s = redis.call('HMGET', KEYS[1], 'state', 'beat', 'lease', 'code', 'name', 'pid')
if not s[1] then return {'GONE'} end
if s[1] == 'ended' then return {'ENDED', s[4], s[5]} end
if s[1] == 'starting' then return {'STARTING'} end
local silence = now() - tonumber(s[2])
if silence > tonumber(s[3]) then return {'LAPSED', silence, s[5]} end
return {'RUNNING', s[6]}
