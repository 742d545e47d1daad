-- cond/notify
-- @version 1
-- Move up to `count` waiters into the lock's own line, in the order they came:
-- each wakes once, already holding the lock.
-- KEYS[1] lock      hash, state of the lock
-- KEYS[2] line      list, the lock's waiters
-- KEYS[3] state     hash, state of the condition
-- KEYS[4] waiters   list, the condition's waiting area
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] fence     of the acquire that holds the lock
-- ARGV[4] count     how many to wake; -1 for all
-- Reply NOTIFIED moved | LOST | NOT_OWNER | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I7 a ticket is in the waiting area, in the lock's line or its owner: one of them
--- @include object, ticket
local lock, line, state, waiters = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local client, seq, fence, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local mine, deposed = 'r:' .. client, 'x:' .. process_of(client)
local s = redis.call('HMGET', lock, 'fmt', 'owner', 'fence', mine, deposed)
if s[1] ~= 'sem/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local c = redis.call('HMGET', state, 'fmt', 'ttl')
if c[1] ~= 'cond/1' then return c[1] and {'VERSION', c[1]} or {'GONE'} end
local again = replayed(s[4], seq)
if again then return again end
local function answer(reply)
  redis.call('HSET', lock, mine, record(seq, reply))
  return reply
end
if s[5] and s[5] == fence then return answer({'LOST'}) end
if s[2] == '' or s[3] ~= fence then return answer({'NOT_OWNER'}) end

local moved = 0
-- Bounded by the number of waiters: LPOP of an empty list ends it.
while moved ~= count do
  local ticket = redis.call('LPOP', waiters)
  if not ticket then break end
  if redis.call('RPUSH', line, ticket) == 1 then redis.call('PEXPIRE', line, c[2]) end
  moved = moved + 1
end
return answer({'NOTIFIED', tostring(moved)})
