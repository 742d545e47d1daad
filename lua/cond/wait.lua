-- cond/wait
-- @version 1
-- Stand in the condition's waiting area and hand the lock on, in one step.
-- Asked again with the same sequence number it tells how things stand.
-- KEYS[1] lock      hash, state of the lock
-- KEYS[2] line      list, the lock's waiters
-- KEYS[3] state     hash, state of the condition
-- KEYS[4] waiters   list, the condition's waiting area
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] fence     of the acquire that holds the lock
-- ARGV[4] condition name of the condition under its lock
-- ARGV[5] listen    1 to have the answer as a hint (ACQUIRED fence [died], ASK), to which
--                   the caller listens until it asks again
-- Reply WAITING [owner fence] | QUEUED owner fence | ACQUIRED fence [died] | FORGOTTEN
-- Reply LOST | NOT_OWNER | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I7 a ticket is in the waiting area, in the lock's line or its owner: one of them
--- @include object, ticket, sem, handover
local lock, line, state, waiters = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local client, seq, fence, condition, listen = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local mine, deposed = 'r:' .. client, 'x:' .. process_of(client)
local ticket = client .. ':' .. seq .. ':' .. condition
local function refused(reply)
  if listen == '1' then post(lock, '~' .. ticket, {'ASK'}) end
  return reply
end
local s = redis.call('HMGET', lock, 'fmt', 'owner', 'fence', mine, deposed)
if s[1] ~= 'sem/1' then return refused(s[1] and {'VERSION', s[1]} or {'GONE'}) end
local c = redis.call('HMGET', state, 'fmt', 'ttl')
if c[1] ~= 'cond/1' then return refused(c[1] and {'VERSION', c[1]} or {'GONE'}) end
local owner = s[2]

local again = replayed(s[4], seq)
if again then
  if again[1] ~= 'WAITING' then return again end
  local asks = listen == '0'
  if place_of(waiters, ticket, asks) then return {'WAITING', owner, s[3]} end
  if place_of(line, ticket, asks) then return {'QUEUED', owner, s[3]} end
  if owner == ticket then return {'ACQUIRED', s[3], news(lock, s[3])} end
  -- Taken for dead and struck off: the caller may have missed a notify.
  return {'FORGOTTEN'}
end
local function answer(word)
  redis.call('HSET', lock, mine, record(seq, {word}))
  return refused({word})
end
if s[5] and s[5] == fence then return answer('LOST') end
if owner == '' or s[3] ~= fence or client_of(owner) ~= client then return answer('NOT_OWNER') end

if redis.call('RPUSH', waiters, (listen == '1' and '~' or '') .. ticket) == 1 then
  redis.call('PEXPIRE', waiters, c[2])
end
give_up(lock, line, 'lock', 0, s[3], mine, record(seq, {'WAITING'}))
return {'WAITING'}
