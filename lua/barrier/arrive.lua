-- barrier/arrive
-- @version 1
-- Arrive and wait, or be the last and let everyone through. Asked again with
-- the same sequence number it tells how things stand.
-- KEYS[1] state     hash
-- KEYS[2] waiters   sorted set: ticket -> order of arrival
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] action    1 if the last to arrive has an action to run first
-- ARGV[4] look      the caller's safety checks so far: whom to look after next
-- Reply PASSED index | ACT index | WAITING suspect | BROKEN | FORGOTTEN | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I9 fewer than parties tickets wait, unless an action runs
-- I10 a broken barrier has no waiters
--- @include object, ticket, barrier
local state, waiters = KEYS[1], KEYS[2]
local client, seq, action, look = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'parties', 'phase', 'actor', 'ttl', mine, 'o:' .. client)
if s[1] ~= 'barrier/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local parties, phase, actor = tonumber(s[2]), s[3], s[4]
local ticket = client .. ':' .. seq

local again = replayed(s[6], seq)
if again then
  if again[1] ~= 'WAITING' then return again end
  local outcome = replayed(s[7], seq)
  if outcome then return outcome end
  local rank = redis.call('ZRANK', waiters, ticket)
  if not rank then return {'FORGOTTEN'} end
  -- Whoever runs the action holds everyone up; otherwise each waiter looks
  -- after another one at each check, so that a dead one is found by somebody.
  if phase == 'action' then return {'WAITING', actor} end
  local other = (rank + look) % redis.call('ZCARD', waiters)
  return {'WAITING', redis.call('ZRANGE', waiters, other, other)[1]}
end
local function answer(reply)
  redis.call('HSET', state, mine, record(seq, reply))
  return reply
end
if phase == 'broken' then return answer({'BROKEN'}) end

local count = redis.call('ZCARD', waiters)
if phase == 'filling' and count == parties - 1 then
  if action == '1' then
    redis.call('ZADD', waiters, redis.call('HINCRBY', state, 'n', 1), ticket)
    redis.call('PEXPIRE', waiters, s[5])
    redis.call('HSET', state, 'phase', 'action', 'actor', ticket)
    return answer({'ACT', tostring(count)})
  end
  if count > 0 then open(state, waiters, count, false) end
  return answer({'PASSED', tostring(count)})
end
redis.call('ZADD', waiters, redis.call('HINCRBY', state, 'n', 1), ticket)
redis.call('PEXPIRE', waiters, s[5])
redis.call('HDEL', state, 'o:' .. client)
answer({'WAITING'})
return {'WAITING', ticket}
