-- barrier/arrive
-- @version 1
-- Arrive and wait, or be the last and let everyone through. Asked again with
-- the same sequence number it tells how things stand.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets, first come first
-- ARGV[1] action    1 if the last to arrive has an action to run first
-- ARGV[2] listen    1 to have the answer as a hint (or ASK), to which the caller
--                   listens until it asks again
-- ARGV[3] client    process.slot
-- ARGV[4] seq       number of the request
-- ARGV[5] look      the caller's safety checks so far: whom to look after next
-- Reply PASSED index | ACT index | WAITING suspect | BROKEN | FORGOTTEN | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I9 fewer than parties tickets wait, unless an action runs
-- I10 a broken barrier has no waiters
--- @include object, ticket, barrier
local state, waiters = KEYS[1], KEYS[2]
local action, listen, client, seq, look = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])

local mine = 'r:' .. client
local ticket = client .. ':' .. seq
local place = (listen == '1' and '~' or '') .. ticket
local s = redis.call('HMGET', state, 'fmt', 'parties', 'phase', 'actor', 'ttl', mine, 'o:' .. client)
if s[1] ~= 'barrier/1' then
  if listen == '1' then post(state, place, {'ASK'}) end
  return s[1] and {'VERSION', s[1]} or {'GONE'}
end
local parties, phase, actor = tonumber(s[2]), s[3], s[4]

local again = replayed(s[6], seq)
if again then
  if again[1] ~= 'WAITING' then return again end
  local outcome = replayed(s[7], seq)
  if outcome then return outcome end
  local rank = place_of(waiters, ticket, listen == '0')
  if not rank then return {'FORGOTTEN'} end
  -- Whoever runs the action holds everyone up; otherwise each waiter looks
  -- after another one at each check, so that a dead one is found by somebody.
  if phase == 'action' then return {'WAITING', actor} end
  local other = (rank + look) % redis.call('LLEN', waiters)
  return {'WAITING', ticket_of(redis.call('LINDEX', waiters, other))}
end
-- The answer to who may be listening for it.
local function answer(reply)
  redis.call('HSET', state, mine, record(seq, reply))
  if listen == '1' then post(state, place, reply) end
  return reply
end
if phase == 'broken' then return answer({'BROKEN'}) end

local count = redis.call('RPUSH', waiters, place)
if count == 1 then redis.call('PEXPIRE', waiters, s[5]) end
if phase == 'filling' and count == parties then
  if action == '1' then
    redis.call('HSET', state, 'phase', 'action', 'actor', ticket)
    return answer({'ACT', tostring(count - 1)})
  end
  redis.call('HSET', state, mine, record(seq, {'WAITING'}))
  open(state, waiters, parties, false, listen == '0' and ticket)
  return {'PASSED', tostring(count - 1)}
end
redis.call('HSET', state, mine, record(seq, {'WAITING'}))
return {'WAITING', ticket}
