-- sem/bury
-- @version 1
-- A process has ended: strike it off the line, give on what it was granted and
-- never saw, and, if it died, what it owned. A normal exit releases nothing, as
-- in CPython; its lock is marked so that nobody looks for the owner any more.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets, first come first
-- ARGV[1] process   that ended
-- ARGV[2] died      what to tell the next owner; empty for a normal exit
-- Reply BURIED | GONE | VERSION fmt
-- I1 value > 0 implies no waiters
-- I2 an exclusive lock has an owner if and only if value = 0
-- I3 repeating a request changes nothing
--- @include object, ticket, sem, bury
local state, waiters = KEYS[1], KEYS[2]
local process, died = ARGV[1], ARGV[2]

local s = redis.call('HMGET', state, 'fmt', 'kind', 'owner', 'fence', 'policy')
if s[1] ~= 'sem/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local kind, owner, fence, policy = s[2], s[3], s[4], s[5]

-- Bounded by the number of waiters: each is looked at once.
for _, ticket in ipairs(redis.call('LRANGE', waiters, 0, -1)) do
  if process_of(ticket) == process then
    redis.call('LREM', waiters, 1, ticket)
    pass_on(state, waiters, ticket)
  end
end
if kind == 'sem' then
  -- Grants that were never acknowledged; bounded by the fields of the state.
  for _, field in ipairs(redis.call('HKEYS', state)) do
    if string.sub(field, 1, 2) == 'g:' and process_of(string.sub(field, 3)) == process then
      redis.call('HDEL', state, field)
      if not hand_over(state, waiters, false) then
        redis.call('HINCRBY', state, 'value', 1)
      end
    end
  end
elseif owner ~= '' and process_of(owner) == process then
  if died ~= '' and policy ~= 'keep' then
    pass_on(state, waiters, owner)
    depose(state, waiters, owner, fence, died)
  elseif string.sub(owner, 1, 1) ~= '!' then
    redis.call('HSET', state, 'owner', '!' .. owner)
  end
end
return {'BURIED'}
