-- pool/cancel
-- @version 1
-- A worker has waited long enough: it leaves, unless it was given something meanwhile.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets of idle workers, first come first
-- ARGV[1] client    process.slot
-- ARGV[2] seq       of the step by which it came into the line; 12 digits
-- Reply TASKS [task ...] | CLOSED | LEFT | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
--- @include queue
local state, waiters, client, seq = KEYS[1], KEYS[2], ARGV[1], ARGV[2]

local mine = 't:' .. client
local s = redis.call('HMGET', state, 'fmt', mine)
if s[1] ~= 'pool/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local letter, rest = answered(s[2], seq)
if letter == 'S' then return {'STALE'} end
if letter == 'H' then
  local hand = cmsgpack.unpack(rest)
  return {'TASKS', unpack(hand, 2)}
end
if letter == 'C' then return {'CLOSED'} end
redis.call('LREM', waiters, 1, client .. ':' .. seq)
redis.call('HSET', state, mine, seq .. 'D')
return {'LEFT'}
