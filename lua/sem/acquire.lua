-- sem/acquire
-- @version 1
-- Take one unit of a lock or semaphore, or stand in line. Asked again with the
-- same sequence number it tells how things stand, so it is the waiter's safety
-- check too.
-- KEYS[1] state     hash, see README
-- KEYS[2] waiters   list of tickets, first come first
-- ARGV[1] kind      lock, rlock or sem
-- ARGV[2] block     1 to stand in line, 0 to give up at once, 2 to stand in line and
--                   have the answer as a hint (FREE fence, ASK), to which the caller
--                   listens until it asks again; nobody reads the reply, which is a word
-- ARGV[3] client    process.slot
-- ARGV[4] seq       number of the request, growing per client; 12 digits
-- Reply ACQUIRED fence [died] | QUEUED owner fence | WOULD_BLOCK | STALE | GONE | VERSION fmt
-- I1 value > 0 implies no waiters
-- I2 an exclusive lock has an owner if and only if value = 0
-- I3 repeating a request changes nothing
local state, waiters = KEYS[1], KEYS[2]
local kind, block, client, seq = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'value', 'owner', 'fence', mine, 'ttl')
if s[1] ~= 'sem/1' then
  if block == '2' then
    redis.pcall('PUBLISH', 'lmp:' .. client, seq .. '\31ASK')
  end
  return s[1] and {'VERSION', s[1]} or {'GONE'}
end
local value, owner, fence, last = s[2], s[3], s[4], s[5]
local ticket = client .. ':' .. seq
-- Numbers have one width, so they compare as text, whatever stands behind them.
local new = not last or last < seq

-- The ways of a first request, free or not, come before any function is defined.
if new and value ~= '0' and owner == '' then
  fence = fence + 1
  redis.call('HSET', state, 'value', value - 1, 'owner', kind == 'sem' and '' or ticket,
             'fence', fence, mine, seq .. '\31ACQUIRED\31' .. fence)
  if block == '2' then
    redis.pcall('PUBLISH', 'lmp:' .. client, seq .. '\31FREE\31' .. fence)
    return 'ACQUIRED'
  end
  return {'ACQUIRED', fence}
end
if new and value == '0' and block ~= '0' then
  if redis.call('RPUSH', waiters, (block == '2' and '~' or '') .. ticket) == 1 then
    redis.call('PEXPIRE', waiters, s[6])
  end
  redis.call('HSET', state, mine, seq .. '\31QUEUED')
  if block == '2' then return 'QUEUED' end
  return {'QUEUED', owner, fence}
end

--- @include object, ticket, sem
-- Whatever is answered below, nobody is to sleep until its time is out.
if block == '2' then post(state, '~' .. ticket, {'ASK'}) end
-- A unit that was granted and not asked for yet: its client may be dead. Bounded
-- by the fields of the state.
local function unseen()
  for _, field in ipairs(redis.call('HKEYS', state)) do
    if string.sub(field, 1, 2) == 'g:' then return string.sub(field, 3) end
  end
  return ''
end
if not new then
  local again = replayed(last, seq)
  if again[1] ~= 'QUEUED' then return again end
  if owner == ticket then return {'ACQUIRED', fence, news(state, fence)} end
  local granted = redis.call('HGET', state, 'g:' .. ticket)
  if granted then
    -- Seen: from here on the unit is the client's own.
    local reply = {'ACQUIRED', granted}
    redis.call('HDEL', state, 'g:' .. ticket)
    redis.call('HSET', state, mine, record(seq, reply))
    return reply
  end
  if place_of(waiters, ticket, block ~= '2') then
    if kind == 'sem' then owner = unseen() end
    return {'QUEUED', owner, fence}
  end
  -- We were taken for dead and struck off the line: stand in it again. What was
  -- granted meanwhile is not ours any more, so its hint must not be found.
  redis.call('DEL', state .. ':m:' .. client)
end
if value ~= '0' then
  fence = tostring(fence + 1)
  local died = obituary(owner)
  local reply = {'ACQUIRED', fence, died}
  mourn(state, fence, died)
  redis.call('HSET', state, 'value', value - 1, 'owner', kind == 'sem' and '' or ticket,
             'fence', fence, mine, record(seq, reply))
  return reply
end
if block == '0' then
  redis.call('HSET', state, mine, record(seq, {'WOULD_BLOCK'}))
  return {'WOULD_BLOCK'}
end
enqueue(state, waiters, ticket)
redis.call('HSET', state, mine, record(seq, {'QUEUED'}))
return {'QUEUED', owner, fence}
