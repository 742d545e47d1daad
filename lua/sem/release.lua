-- sem/release
-- @version 1
-- Give one unit back; the oldest waiter gets it at once. As in CPython anyone
-- may release a lock or semaphore, but an RLock only the client that owns it.
-- KEYS[1] state     hash
-- KEYS[2] waiters   sorted set: ticket -> place
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] fence     of the acquire this undoes; 0 if the caller holds nothing
-- Reply RELEASED | LOST | NOT_OWNER | TOO_MANY | STALE | GONE | VERSION fmt
-- I1 value > 0 implies no waiters
-- I3 repeating a request changes nothing
-- I4 value never exceeds max
-- I5 a client whose lock was given away while it stood still is told LOST
--- @include object, ticket, sem
local state, waiters = KEYS[1], KEYS[2]
local client, seq, fence = ARGV[1], ARGV[2], ARGV[3]

local mine, deposed = 'r:' .. client, 'x:' .. client
local s = redis.call('HMGET', state, 'fmt', 'value', 'max', 'kind', 'owner', mine, deposed)
local bad = refuse(s[1], 'sem/1')
if bad then return bad end
local again = replayed(s[6], seq)
if again then return again end
local value, max, kind, owner = tonumber(s[2]), tonumber(s[3]), s[4], s[5]

local function answer(word)
  redis.call('HSET', state, mine, record(seq, {word}))
  return {word}
end

if s[7] and s[7] == fence then
  redis.call('HDEL', state, deposed)
  return answer('LOST')
end
if kind == 'rlock' and (owner == '' or client_of(owner) ~= client) then
  return answer('NOT_OWNER')
end
if value >= max then return answer('TOO_MANY') end
if hand_over(state, waiters, kind ~= 'sem', '') then return answer('RELEASED') end
if kind == 'sem' then
  redis.call('HSET', state, 'value', value + 1, mine, record(seq, {'RELEASED'}))
else
  redis.call('HSET', state, 'value', 1, 'owner', '', mine, record(seq, {'RELEASED'}))
end
return {'RELEASED'}
