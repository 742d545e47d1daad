-- Handing on a unit of a lock or semaphore.
-- Give the unit that was just freed to the oldest waiter. True if there was one.
-- An exclusive lock names its owner; a semaphore notes the grant until the
-- waiter asks for it, so that a unit handed to a dead waiter comes back.
local function hand_over(state, waiters, exclusive, died)
  local head = redis.call('ZPOPMIN', waiters)
  if #head == 0 then return false end
  local ticket = head[1]
  local fence = redis.call('HINCRBY', state, 'fence', 1)
  if exclusive then
    redis.call('HSET', state, 'owner', ticket, 'died', '')
  else
    redis.call('HSET', state, 'g:' .. ticket, fence)
  end
  local reply = {'ACQUIRED', tostring(fence)}
  if died and died ~= '' then reply[3] = died end
  post(state, ticket, reply)
  return true
end
-- Stand in line behind everyone else.
local function enqueue(state, waiters, ticket, ttl)
  redis.call('ZADD', waiters, redis.call('HINCRBY', state, 'n', 1), ticket)
  redis.call('PEXPIRE', waiters, ttl)
end
