-- sem/acquire
-- @version 1
-- Take one unit of a lock or semaphore, or stand in line. Asked again with the
-- same sequence number it tells how things stand, so it is the waiter's safety
-- check too.
-- KEYS[1] state     hash, see README
-- KEYS[2] waiters   sorted set: ticket -> place
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request, growing per client
-- ARGV[3] block     1 to stand in line, 0 to give up at once
-- Reply ACQUIRED fence [died] | QUEUED owner fence | WOULD_BLOCK | STALE | GONE | VERSION fmt
-- I1 value > 0 implies no waiters
-- I2 an exclusive lock has an owner if and only if value = 0
-- I3 repeating a request changes nothing
--- @include object, ticket, sem
local state, waiters = KEYS[1], KEYS[2]
local client, seq, block = ARGV[1], ARGV[2], ARGV[3]

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'value', 'kind', 'owner', 'fence', 'died', 'ttl', mine)
local bad = refuse(s[1], 'sem/1')
if bad then return bad end
local value, kind, owner, fence, died = tonumber(s[2]), s[3], s[4], s[5], s[6]
local ticket = client .. ':' .. seq

local again = replayed(s[8], seq)
if again then
  if again[1] ~= 'QUEUED' then return again end
  if owner == ticket then return {'ACQUIRED', fence} end
  local granted = redis.call('HGET', state, 'g:' .. ticket)
  if granted then
    -- Seen: from here on the unit is the client's own.
    local reply = {'ACQUIRED', granted}
    redis.call('HDEL', state, 'g:' .. ticket)
    redis.call('HSET', state, mine, record(seq, reply))
    return reply
  end
  if redis.call('ZSCORE', waiters, ticket) then return {'QUEUED', owner, fence} end
  -- We were taken for dead and struck off the line: stand in it again.
end

if value > 0 then
  fence = fence + 1
  local reply = {'ACQUIRED', tostring(fence)}
  if died ~= '' then reply[3] = died end
  if kind == 'sem' then
    redis.call('HSET', state, 'value', value - 1, 'fence', fence, mine, record(seq, reply))
  else
    redis.call('HSET', state, 'value', 0, 'fence', fence, 'owner', ticket, 'died', '',
               mine, record(seq, reply))
  end
  return reply
end
if block == '0' then
  redis.call('HSET', state, mine, record(seq, {'WOULD_BLOCK'}))
  return {'WOULD_BLOCK'}
end
enqueue(state, waiters, ticket, s[7])
redis.call('HSET', state, mine, record(seq, {'QUEUED'}))
return {'QUEUED', owner, fence}
