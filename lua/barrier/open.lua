-- barrier/open
-- @version 1
-- The action has run: let everyone through.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets, first come first
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of this request
-- ARGV[3] ticket    that was told to run the action
-- Reply PASSED index | BROKEN | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I9 fewer than parties tickets wait, unless an action runs
--- @include object, ticket, barrier
local state, waiters = KEYS[1], KEYS[2]
local client, seq, ticket = ARGV[1], ARGV[2], ARGV[3]

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'parties', 'phase', 'actor', mine)
if s[1] ~= 'barrier/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local again = replayed(s[5], seq)
if again then return again end
local reply = {'BROKEN'}
if s[3] == 'action' and s[4] == ticket then
  reply = {'PASSED', tostring(s[2] - 1)}
  open(state, waiters, tonumber(s[2]), true, ticket)
end
redis.call('HSET', state, mine, record(seq, reply))
return reply
