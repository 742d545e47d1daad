-- sem/cancel
-- @version 1
-- Stop waiting. At a time-out a grant that came meanwhile counts as acquired;
-- a caller that was interrupted gives it on to the next waiter instead.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets, first come first
-- KEYS[3] mailbox   list of hints of this client
-- ARGV[1] kind      lock, rlock or sem
-- ARGV[2] client    process.slot
-- ARGV[3] seq       of the acquire that is given up
-- ARGV[4] keep      1 to keep a grant (time-out), 0 to give it on (interrupt)
-- Reply ACQUIRED fence [died] | CANCELLED | STALE | GONE | VERSION fmt
-- I1 value > 0 implies no waiters
-- I3 repeating a request changes nothing
-- I6 after CANCELLED or LEFT a late copy of the acquire or the wait takes nothing
--- @include object, ticket, sem
local state, waiters, mailbox = KEYS[1], KEYS[2], KEYS[3]
local kind, client, seq, keep = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'value', 'owner', 'fence', mine)
if s[1] ~= 'sem/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local value, owner = tonumber(s[2]), s[3]
local ticket = client .. ':' .. seq
local again = replayed(s[5], seq)
if again and (again[1] == 'STALE' or again[1] == 'CANCELLED') then return again end

local function cancelled()
  redis.call('DEL', mailbox)
  redis.call('HSET', state, mine, record(seq, {'CANCELLED'}))
  return {'CANCELLED'}
end

local left = redis.call('LREM', waiters, 1, ticket) + redis.call('LREM', waiters, 1, '~' .. ticket)
if left > 0 then return cancelled() end
local granted = owner == ticket and s[4] or redis.call('HGET', state, 'g:' .. ticket)
-- A semaphore's unit that was seen already has no owner, but is in the answer.
if not granted and kind == 'sem' and again and again[1] == 'ACQUIRED' then granted = again[2] end
if not granted then return cancelled() end
local died = owner == ticket and news(state, granted) or nil
if keep == '1' then
  local reply = {'ACQUIRED', granted, died}
  redis.call('HDEL', state, 'g:' .. ticket)
  redis.call('HSET', state, mine, record(seq, reply))
  return reply
end
redis.call('HDEL', state, 'g:' .. ticket)
-- Nobody has looked after what the dead one left, so the next one is told, too.
if not hand_over(state, waiters, kind ~= 'sem', died) then
  redis.call('HSET', state, 'value', value + 1, 'owner', died and '?' .. died or '')
end
return cancelled()
