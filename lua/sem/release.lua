-- sem/release
-- @version 1
-- Give one unit back; the oldest waiter gets it at once. As in CPython anyone
-- may release a lock or semaphore, but an RLock only the client that owns it.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets, first come first
-- ARGV[1] kind      lock, rlock or sem
-- ARGV[2] max       value it may not exceed
-- ARGV[3] client    process.slot
-- ARGV[4] seq       number of the request
-- ARGV[5] fence     of the acquire this undoes; 0 if the caller holds nothing
-- Reply RELEASED | LOST | NOT_OWNER | TOO_MANY | STALE | GONE | VERSION fmt
-- I1 value > 0 implies no waiters
-- I3 repeating a request changes nothing
-- I4 value never exceeds max
-- I5 a client whose lock was given away while it stood still is told LOST
local state, waiters = KEYS[1], KEYS[2]
local kind, max, client, seq, fence = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'value', 'owner', 'fence', mine)
if s[1] ~= 'sem/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local value, owner, last = tonumber(s[2]), s[3], s[5]
local new = not last or last < seq
-- Whoever takes a lock away changes the fence, so an equal one is still ours.
local ours = fence == s[4] or kind == 'sem'

-- The ways of a first request, with a waiter or not, come before any function is
-- defined. The hand-over is `hand_over` below, in half as many calls.
if new and ours and value < max then
  local place = redis.call('LPOP', waiters)
  if not place then
    redis.call('HSET', state, 'value', value + 1, 'owner', '', mine, seq .. '\31RELEASED')
    return 'RELEASED'
  end
  local next_fence = s[4] + 1
  local listens, ticket, to, number = string.match(place, '^(~?)(([^:]+):(%d+).*)')
  local field = kind == 'sem' and 'g:' .. ticket or 'owner'
  redis.call('HSET', state, field, kind == 'sem' and next_fence or ticket,
             'fence', next_fence, mine, seq .. '\31RELEASED')
  local hint = number .. '\31ACQUIRED\31' .. next_fence
  if listens == '~' then
    redis.call('PUBLISH', 'lmp:' .. to, hint)
  else
    local mailbox = state .. ':m:' .. to
    redis.call('RPUSH', mailbox, hint)
    redis.call('PEXPIRE', mailbox, 60000)
  end
  return 'RELEASED'
end

--- @include object, ticket, sem
if not new then return replayed(last, seq)[1] end
local function answer(word)
  redis.call('HSET', state, mine, record(seq, {word}))
  return word
end

if not ours and fence ~= '0' and redis.call('HGET', state, 'x:' .. process_of(client)) == fence then
  return answer('LOST')
end
if kind == 'rlock' and client_of(owner) ~= client then return answer('NOT_OWNER') end
if value >= max then return answer('TOO_MANY') end
if not hand_over(state, waiters, kind ~= 'sem') then
  redis.call('HSET', state, 'value', value + 1, 'owner', '')
end
return answer('RELEASED')
