-- barrier/smash
-- @version 1
-- Break the barrier for everyone (abort, a failed action), or reset it, which
-- breaks it for those who wait and leaves it usable.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets, first come first
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] phase     broken, or filling for a reset
-- Reply OK | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I10 a broken barrier has no waiters
--- @include object, ticket, barrier
local state, waiters = KEYS[1], KEYS[2]
local client, seq, phase = ARGV[1], ARGV[2], ARGV[3]

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', mine)
if s[1] ~= 'barrier/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local again = replayed(s[2], seq)
if again then return again end
smash(state, waiters, phase)
redis.call('HSET', state, mine, record(seq, {'OK'}))
return {'OK'}
