-- process/status
-- @version 1
-- Is a process alive, by the server's clock? A process that has not been claimed
-- by a function yet counts as alive: it holds nothing. One that has LAPSED is
-- `kept` (1, else 0) if its supervisor still looks after it: it is only frozen.
-- KEYS[1] record    hash
-- Reply STARTING | RUNNING pid | LAPSED silence_ms name kept | ENDED code name | GONE
--- @include now
local s = redis.call('HMGET', KEYS[1], 'state', 'beat', 'lease', 'code', 'name', 'pid', 'kept')
if not s[1] then return {'GONE'} end
if s[1] == 'ended' then return {'ENDED', s[4], s[5]} end
if s[1] == 'starting' then return {'STARTING'} end
local at, lease = now(), tonumber(s[3])
local silence = at - tonumber(s[2])
if silence > lease then
  local kept = s[7] and at - tonumber(s[7]) <= lease
  return {'LAPSED', silence, s[5], kept and '1' or '0'}
end
return {'RUNNING', s[6]}
