-- queue/put
-- @version 1
-- Put messages at the end, or give them to those who wait. Where there is no room the
-- message is parked, and the get that makes room puts it. Asked again with the same
-- number it tells how things stand, so it is the waiting putter's safety check too.
-- KEYS[1] peer      state of the pipe's end that writes; of a queue the state itself
-- KEYS[2] state     hash, see README
-- KEYS[3] waiters   list of tickets of gets, first come first
-- KEYS[4] items     list of elements
-- KEYS[5] parked    list of tickets of puts, first come first
-- KEYS[6] blobs     set: messages that have keys of their own
-- KEYS[7] stream    bell of those who watch
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request; 12 digits
-- ARGV[3] block     1 to wait for room, 0 to give up at once
-- ARGV[4] element   the message
-- ARGV[5] more      msgpack array of further ones, for a queue without bound; or empty
-- Reply PUT | PARKED | FULL | BROKEN | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I11 messages lie in a queue only while nobody waits for one
-- I12 a put is parked only while there is no room
local peer, state, waiters, items, parked = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local blobs, stream = KEYS[6], KEYS[7]
local client, seq, block, element, more = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

local mine = 's:' .. client
local s = redis.call('HMGET', state, 'fmt', 'max', 'room', 'held', 'todo', 'watch', 'ttl', mine)
if s[1] ~= 'queue/1' then
  if s[1] then return {'VERSION', s[1]} end
  -- Nobody will read them. Bounded by the elements of the request.
  local lost = more == '' and {} or cmsgpack.unpack(more)
  lost[#lost + 1] = element
  for _, found in ipairs(lost) do
    local pieces, name = string.match(found, '^[^0]%d+:(%d+):(.+)$')
    for i = 0, (pieces or 0) - 1 do redis.call('UNLINK', state .. ':b:' .. name .. ':' .. i) end
  end
  -- The other end of a pipe is closed, maybe after it got this very message; unless all is lost.
  if redis.call('HGET', peer, 'l:' .. client) == seq .. 'P' then return {'PUT'} end
  return redis.call('EXISTS', peer) == 1 and {'BROKEN'} or {'GONE'}
end
local max, room, held, ttl, last = tonumber(s[2]), tonumber(s[3]), tonumber(s[4]), s[7], s[8]

-- The ways of a first request with one small message, taken at once or left lying, come
-- before any function is defined: what `give` and the rest below do, in fewer calls.
if (not last or last < seq) and more == '' and s[5] == '' and string.byte(element) == 48 then
  local next = redis.call('LPOP', waiters)
  if next then
    local listens, to, number = string.match(next, '^(~?)([^:]+):(%d+)')
    redis.call('HSET', state, 't:' .. to, number .. 'I' .. element, mine, seq .. 'P')
    if listens == '~' then
      redis.pcall('PUBLISH', 'lmp:' .. to, number .. '\31ITEMS\31' .. element)
    else
      local mailbox = state .. ':m:' .. to
      redis.call('RPUSH', mailbox, number .. '\31ITEMS\31' .. element)
      redis.call('PEXPIRE', mailbox, 60000)
    end
    return {'PUT'}
  end
  if max == 0 and s[6] == '0' and (room == 0 or held < room) then
    if redis.call('RPUSH', items, element) == 1 then redis.call('PEXPIRE', items, ttl) end
    redis.call('HSET', state, 'held', room > 0 and held + #element or 0, mine, seq .. 'P')
    return {'PUT'}
  end
end

--- @include object, ticket, queue
local ticket = client .. ':' .. seq
local letter = answered(last, seq)
if letter == 'S' then return {'STALE'} end
if letter == 'P' then return {'PUT'} end
if letter == 'F' then return {'FULL'} end
if letter == 'C' then return {'STALE'} end -- it was cancelled: a late copy
-- Our own end of the pipe is gone: this process was taken for dead.
if peer ~= state and redis.call('EXISTS', peer) == 0 then return {'GONE'} end
if letter == 'K' and redis.call('LPOS', parked, ticket) then return {'PARKED'} end
-- New; or parked and struck off as a dead process's: put it anew.

local elements = more == '' and {} or cmsgpack.unpack(more)
table.insert(elements, 1, element)
local length = redis.call('LLEN', items)
if (max > 0 and length >= max) or (room > 0 and held >= room) then
  if block == '0' then
    discard(state, blobs, element)
    redis.call('HSET', state, mine, seq .. 'F')
    return {'FULL'}
  end
  keep(state, blobs, element, ttl)
  redis.call('RPUSH', parked, ticket)
  redis.call('PEXPIRE', parked, ttl)
  redis.call('HSET', state, mine, seq .. 'K' .. element)
  return {'PARKED'}
end
-- Bounded by the elements of the request.
for _, found in ipairs(elements) do keep(state, blobs, found, ttl) end
local from = 1
if length == 0 then
  while elements[from] and give(state, waiters, elements[from]) do from = from + 1 end
end
for i = from, #elements, 1000 do
  redis.call('RPUSH', items, unpack(elements, i, math.min(#elements, i + 999)))
end
if elements[from] then
  if length == 0 then redis.call('PEXPIRE', items, ttl) end
  if s[6] == '1' then ring(state, stream, ttl) end
  for i = from, room > 0 and #elements or 0 do held = held + size_of(elements[i]) end
end
redis.call('HSET', state, mine, seq .. 'P', 'held', held,
           'todo', s[5] == '' and '' or s[5] + #elements)
return {'PUT'}
