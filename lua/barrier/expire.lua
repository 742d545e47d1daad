-- barrier/expire
-- @version 1
-- A party gives up waiting, which breaks the barrier for everyone, unless it
-- has been let through meanwhile. While the action runs all parties are there,
-- so a time-out then waits for its end, as in CPython; an interrupted party
-- breaks the barrier even then.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets, first come first
-- ARGV[1] client    process.slot
-- ARGV[2] seq       of the arrival that is given up
-- ARGV[3] force     1 if the party was interrupted
-- Reply PASSED index | ACT index | WAITING | BROKEN | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I10 a broken barrier has no waiters
--- @include object, ticket, barrier
local state, waiters = KEYS[1], KEYS[2]
local client, seq, force = ARGV[1], ARGV[2], ARGV[3]

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'phase', mine, 'o:' .. client)
if s[1] ~= 'barrier/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local again = replayed(s[3], seq)
if again and again[1] ~= 'WAITING' and again[1] ~= 'ACT' then return again end
local outcome = again and replayed(s[4], seq)
if outcome and (outcome[1] ~= 'ACT' or force == '0') then return outcome end
if s[2] == 'action' and force == '0' then return {'WAITING'} end
if place_of(waiters, client .. ':' .. seq) then smash(state, waiters, 'broken') end
redis.call('HSET', state, mine, record(seq, {'BROKEN'}))
return {'BROKEN'}
