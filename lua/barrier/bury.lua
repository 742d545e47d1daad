-- barrier/bury
-- @version 1
-- A process has ended: if it was waiting or running the action, the barrier is
-- broken for everyone.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets, first come first
-- ARGV[1] process   that ended
-- Reply BURIED | GONE | VERSION fmt
-- I10 a broken barrier has no waiters
--- @include object, ticket, barrier
local state, waiters = KEYS[1], KEYS[2]
local process = ARGV[1]
local fmt = redis.call('HGET', state, 'fmt')
if fmt ~= 'barrier/1' then return fmt and {'VERSION', fmt} or {'GONE'} end
-- Bounded by the number of waiters: each is looked at once.
for _, ticket in ipairs(redis.call('LRANGE', waiters, 0, -1)) do
  if process_of(ticket) == process then
    smash(state, waiters, 'broken')
    break
  end
end
return {'BURIED'}
