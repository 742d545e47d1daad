-- cond/expire
-- @version 1
-- The wait timed out or was interrupted: leave the waiting area and ask for the
-- lock back. Whether the notify or the time-out came first is decided here.
-- Asked again with the same sequence number it tells how things stand.
-- KEYS[1] lock      hash, state of the lock
-- KEYS[2] line      list, the lock's waiters
-- KEYS[3] waiters   list, the condition's waiting area
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of this request
-- ARGV[3] ticket    of the wait
-- Reply EXPIRED QUEUED owner fence | EXPIRED ACQUIRED fence [died]
-- Reply NOTIFIED QUEUED owner fence | NOTIFIED ACQUIRED fence [died]
-- Reply FORGOTTEN | STALE | GONE | VERSION fmt
-- I1 value > 0 implies no waiters
-- I3 repeating a request changes nothing
-- I7 a ticket is in the waiting area, in the lock's line or its owner: one of them
--- @include object, ticket, sem
local lock, line, waiters = KEYS[1], KEYS[2], KEYS[3]
local client, seq, ticket = ARGV[1], ARGV[2], ARGV[3]

local mine = 'r:' .. client
local s = redis.call('HMGET', lock, 'fmt', 'owner', 'fence', 'value', mine)
if s[1] ~= 'sem/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local owner, fence = s[2], s[3]
local again = replayed(s[5], seq)
if again and again[1] == 'STALE' then return again end

local why = again and again[1] or 'NOTIFIED'
if redis.call('LREM', waiters, 1, ticket) + redis.call('LREM', waiters, 1, '~' .. ticket) > 0 then
  why = 'EXPIRED'
  if s[4] == '1' then
    fence = tostring(fence + 1)
    redis.call('HSET', lock, 'value', 0, 'fence', fence, 'owner', ticket,
               mine, record(seq, {why}))
    local died = obituary(owner)
    mourn(lock, fence, died)
    return {why, 'ACQUIRED', fence, died}
  end
  enqueue(lock, line, ticket)
  redis.call('HSET', lock, mine, record(seq, {why}))
  return {why, 'QUEUED', owner, fence}
end
local reply
if owner == ticket then
  reply = {why, 'ACQUIRED', fence, news(lock, fence)}
elseif place_of(line, ticket, true) then
  reply = {why, 'QUEUED', owner, fence}
elseif client_of(owner) == client then
  -- Interrupted before the wait was carried out: the lock is still ours.
  why = 'EXPIRED'
  reply = {why, 'ACQUIRED', fence}
else
  return {'FORGOTTEN'}
end
redis.call('HSET', lock, mine, record(seq, {why}))
return reply
