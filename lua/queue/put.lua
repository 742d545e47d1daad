-- queue/put
-- @version 1
-- Put messages at the end, or give them to those who wait. Where there is no room the
-- message is parked, and the get that makes room puts it. Asked again with the same
-- number it tells how things stand, so it is the waiting putter's safety check too.
-- KEYS[1] peer      state of the pipe's end that writes; of a queue the state itself
-- KEYS[2] state     hash, see README
-- KEYS[3] waiters   sorted set: ticket of a get -> place
-- KEYS[4] items     list of elements
-- KEYS[5] parked    sorted set: ticket of a put -> place
-- KEYS[6] blobs     set: messages that have keys of their own
-- KEYS[7] stream    bell of those who watch
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request; 12 digits
-- ARGV[3] block     1 to wait for room, 0 to give up at once; a bound has single messages
-- ARGV[4] elements  msgpack array
-- Reply PUT | PARKED | FULL | BROKEN | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I11 messages lie in a queue only while nobody waits for one
-- I12 a put is parked only while there is no room
--- @include object, ticket, queue
local peer, state, waiters, items, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local blobs, stream = KEYS[6], KEYS[7]
local client, seq, block, elements = ARGV[1], ARGV[2], ARGV[3], cmsgpack.unpack(ARGV[4])

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'max', 'room', 'held', 'todo', 'watch', 'ttl', mine)
if s[1] ~= 'queue/1' then
  if s[1] then return {'VERSION', s[1]} end
  -- The other end of a pipe is closed; unless all is lost.
  return redis.call('EXISTS', peer) == 1 and {'BROKEN'} or {'GONE'}
end
if peer ~= state and redis.call('EXISTS', peer) == 0 then return {'GONE'} end
local max, room, held, ttl = tonumber(s[2]), tonumber(s[3]), tonumber(s[4]), s[7]
local ticket = client .. ':' .. seq
local again = replayed(s[8], seq)
if again then
  if again[1] ~= 'PARKED' or redis.call('ZSCORE', parked, ticket) then return again end
  -- Struck off as dead: put it anew.
end

local length = redis.call('LLEN', items)
if (max > 0 and length >= max) or (room > 0 and held >= room) then
  if block == '0' then
    for _, element in ipairs(elements) do discard(state, blobs, element) end
    redis.call('HSET', state, mine, record(seq, {'FULL'}))
    return {'FULL'}
  end
  keep(state, blobs, elements[1], ttl)
  redis.call('ZADD', parked, redis.call('HINCRBY', state, 'n', 1), ticket)
  redis.call('PEXPIRE', parked, ttl)
  redis.call('HSET', state, 'p:' .. ticket, elements[1], mine, record(seq, {'PARKED'}))
  return {'PARKED'}
end
-- Bounded by the elements of the request.
local from = 1
for _, element in ipairs(elements) do keep(state, blobs, element, ttl) end
if length == 0 then
  while elements[from] and give(state, waiters, elements[from]) do from = from + 1 end
end
for i = from, #elements, 1000 do
  redis.call('RPUSH', items, unpack(elements, i, math.min(#elements, i + 999)))
end
if elements[from] then
  if length == 0 then
    redis.call('PEXPIRE', items, ttl)
    if s[6] == '1' then ring(state, stream, ttl) end
  end
  if room > 0 then
    for i = from, #elements do held = held + size_of(elements[i]) end
  end
end
redis.call('HSET', state, mine, record(seq, {'PUT'}), 'held', held,
           'todo', s[5] == '' and '' or s[5] + #elements)
return {'PUT'}
