-- cond/bury
-- @version 1
-- A process has ended: take it out of the condition's waiting area.
-- KEYS[1] state     hash, state of the condition
-- KEYS[2] waiters   list, the condition's waiting area
-- ARGV[1] process   that ended
-- Reply BURIED | GONE | VERSION fmt
--- @include object, ticket
local state, waiters = KEYS[1], KEYS[2]
local process = ARGV[1]
local fmt = redis.call('HGET', state, 'fmt')
if fmt ~= 'cond/1' then return fmt and {'VERSION', fmt} or {'GONE'} end
-- Bounded by the number of waiters: each is looked at once.
for _, ticket in ipairs(redis.call('LRANGE', waiters, 0, -1)) do
  if process_of(ticket) == process then redis.call('LREM', waiters, 1, ticket) end
end
return {'BURIED'}
