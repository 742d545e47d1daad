-- event/clear
-- @version 1
-- Lower the flag. Whoever was waiting when it was raised stays woken.
-- KEYS[1] state     hash
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- Reply OK | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
--- @include object
local state = KEYS[1]
local client, seq = ARGV[1], ARGV[2]

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', mine)
if s[1] ~= 'event/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local again = replayed(s[2], seq)
if again then return again end
redis.call('HSET', state, 'flag', 0, mine, record(seq, {'OK'}))
return {'OK'}
