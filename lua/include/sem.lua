-- Handing on a unit of a lock or semaphore.
-- The owner of a lock nobody holds is '', or '?' and how the last one died.
local function obituary(owner)
  return string.match(owner, '^%?(.*)')
end
-- How the holder before the one with this fence died. The state keeps it, as
-- "fence SEP words": the hint and the answer that say so may be lost.
local function mourn(state, fence, died)
  if died then redis.call('HSET', state, 'died', fence .. SEP .. died) end
end
local function news(state, fence)
  local words = split(redis.call('HGET', state, 'died') or '')
  if words[1] == tostring(fence) then return words[2] end
end
-- Give the unit that was just freed to the oldest waiter. True if there was one.
-- An exclusive lock names its owner; a semaphore notes the grant until the
-- waiter asks for it, so that a unit handed to a dead waiter comes back.
local function hand_over(state, waiters, exclusive, died)
  local place = redis.call('LPOP', waiters)
  if not place then return false end
  local ticket = ticket_of(place)
  local fence = redis.call('HINCRBY', state, 'fence', 1)
  if exclusive then
    redis.call('HSET', state, 'owner', ticket)
    mourn(state, fence, died)
  else
    redis.call('HSET', state, 'g:' .. ticket, fence)
  end
  post(state, place, {'ACQUIRED', tostring(fence), died})
  return true
end
-- Stand in line behind everyone else.
local function enqueue(state, waiters, ticket)
  if redis.call('RPUSH', waiters, ticket) == 1 then
    redis.call('PEXPIRE', waiters, redis.call('HGET', state, 'ttl'))
  end
end
