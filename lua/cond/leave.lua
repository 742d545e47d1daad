-- cond/leave
-- @version 1
-- The waiter could not reach the server for so long that its caller was told: take its ticket
-- out, wherever it is. A notify goes to the next waiter, the lock to the next in line, and a
-- release of what the wait had given up finds it LOST.
-- KEYS[1] lock      hash, state of the lock
-- KEYS[2] line      list, the lock's waiters
-- KEYS[3] waiters   list, the condition's waiting area
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of this request
-- ARGV[3] fence     of the acquire that held the lock before the wait
-- ARGV[4] ticket    of the wait
-- Reply LEFT | STALE | GONE | VERSION fmt
-- I1 value > 0 implies no waiters
-- I3 repeating a request changes nothing
-- I6 after CANCELLED or LEFT a late copy of the acquire or the wait takes nothing
--- @include object, ticket, sem, bury
local lock, line, waiters = KEYS[1], KEYS[2], KEYS[3]
local client, seq, fence, ticket = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local mine = 'r:' .. client
local s = redis.call('HMGET', lock, 'fmt', 'owner', 'fence', mine)
if s[1] ~= 'sem/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local owner, last = s[2], s[3]
local again = replayed(s[4], seq)
if again then return again end

redis.call('HSET', lock, mine, record(seq, {'LEFT'}))
-- The wait was never carried out: the lock is still the caller's.
if last == fence and client_of(owner) == client then return {'LEFT'} end
redis.call('HSET', lock, 'x:' .. process_of(client), fence)
if last == fence then redis.call('HINCRBY', lock, 'fence', 1) end

local function struck_off(list)
  return redis.call('LREM', list, 1, ticket) + redis.call('LREM', list, 1, '~' .. ticket) > 0
end
if struck_off(waiters) then return {'LEFT'} end
if struck_off(line) then
  pass_on(lock, line, ticket)
elseif owner == ticket then
  pass_on(lock, line, ticket)
  -- Nobody has looked after what a dead holder left, so the next one is told, too.
  local died = news(lock, last)
  if not hand_over(lock, line, true, died) then
    redis.call('HSET', lock, 'value', 1, 'owner', died and '?' .. died or '')
  end
end
return {'LEFT'}
