-- queue/get
-- @version 1
-- Take messages, or stand in line for one. What the client was given before is done
-- with. Asked again with the same number it tells how things stand, so it is the
-- waiter's safety check too.
-- KEYS[1] peer      state of the pipe's end that writes; of a queue the state itself
-- KEYS[2] state     hash, see README
-- KEYS[3] waiters   list of tickets of gets, first come first
-- KEYS[4] items     list of elements
-- KEYS[5] parked    list of tickets of puts, first come first
-- KEYS[6] blobs     set: messages that have keys of their own
-- ARGV[1] block     1 to stand in line, 0 to give up at once, 2 to stand in line and
--                   have the answer as a hint (READY element, ASK), to which the caller
--                   listens until it asks again; nobody reads the reply, which is a word
-- ARGV[2] client    process.slot
-- ARGV[3] seq       number of the request; 12 digits
-- ARGV[4] want      messages that may be taken at once, while no other process reads
-- Reply ITEMS [element ...] | QUEUED | EMPTY | EOF | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I11 messages lie in a queue only while nobody waits for one
-- I12 a put is parked only while there is no room
-- I13 a message is given to one client, and to another one only if nobody saw it
local peer, state, waiters, items = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local parked, blobs = KEYS[5], KEYS[6]
local block, client, seq, want = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local mine = 't:' .. client
local s = redis.call('HMGET', state, 'fmt', 'max', 'room', 'held', 'reader', 'eof', 'ttl', mine)
if s[1] ~= 'queue/1' then
  if block == '2' then
    redis.pcall('PUBLISH', 'lmp:' .. client, seq .. '\31ASK')
  end
  return s[1] and {'VERSION', s[1]} or {'GONE'}
end
local max, room, held, reader, eof = tonumber(s[2]), tonumber(s[3]), tonumber(s[4]), s[5], s[6]
local ttl, last = s[7], s[8]
local process = string.match(client, '^[^.]+')
-- Its first request here: was its process seen to end before it was read?
if not last then last = redis.call('HGET', state, 't:' .. process) end
local new = not last or last < seq

-- The ways of a first request for one message, which is there or not, come before any
-- function is defined; nothing is parked there, and nothing large was taken before.
if new and want == '1' and reader == process and max == 0 and (room == 0 or held < room)
    and not (last and string.byte(last, 13) == 66) then
  local element = redis.call('LPOP', items)
  if element then
    local small = string.byte(element) == 48
    local size = small and #element or tonumber(string.match(element, '^.(%d+)'))
    redis.call('HSET', state, mine, seq .. (small and 'I' or 'B') .. element,
               'held', room > 0 and held - size or 0)
    if block == '2' then
      redis.pcall('PUBLISH', 'lmp:' .. client, seq .. '\31READY\31' .. element)
      return 'ITEMS'
    end
    return {'ITEMS', element}
  end
  if block ~= '0' and eof == '' then
    local place = (block == '2' and '~' or '') .. client .. ':' .. seq
    if redis.call('RPUSH', waiters, place) == 1 then
      redis.call('PEXPIRE', waiters, ttl)
    end
    redis.call('HSET', state, mine, seq .. 'Q')
    return block == '2' and 'QUEUED' or {'QUEUED'}
  end
end

--- @include object, ticket, queue
local ticket = client .. ':' .. seq
local function answer(reply)
  if block == '2' then post(state, '~' .. ticket, {reply[2] and 'READY' or 'ASK', reply[2]}) end
  return reply
end
local closed = eof ~= '' or (peer ~= state and redis.call('EXISTS', peer) == 0)
local letter, rest = answered(last, seq)
if letter == 'S' or letter == 'C' then return answer({'STALE'}) end
if letter == 'E' then return answer({'EMPTY'}) end
if letter == 'Z' then return answer({'EOF'}) end
if letter == 'G' then return answer({'ITEMS'}) end -- given to somebody else since
if letter and letter ~= 'Q' then return answer({'ITEMS', unpack(elements_of(letter, rest))}) end
if letter == 'Q' then
  -- The client listens no longer, if it did.
  local place = redis.call('LPOS', waiters, '~' .. ticket)
  if place and block ~= '2' then redis.call('LSET', waiters, place, ticket) end
  if (place or redis.call('LPOS', waiters, ticket)) and not closed then return {'QUEUED'} end
  -- Struck off as dead, or the other end went without a word: as if new.
  redis.call('LREM', waiters, 1, ticket)
  redis.call('LREM', waiters, 1, '~' .. ticket)
elseif last then
  for _, element in ipairs(elements_of(string.sub(last, 13, 13), string.sub(last, 14))) do
    discard(state, blobs, element)
  end
end
if reader ~= process then
  reader = reader == '' and process or '*'
  redis.call('HSET', state, 'reader', reader)
end

local elements = redis.call('LPOP', items, reader == process and want or 1)
if elements then
  -- A message with keys of its own comes alone: they are read after this, and go with
  -- the client's next request. Bounded by what was taken.
  local count = 1
  if string.byte(elements[1]) == 48 then
    while elements[count + 1] and string.byte(elements[count + 1]) == 48 do count = count + 1 end
  end
  if elements[count + 1] then
    while elements[count + 1] do redis.call('LPUSH', items, table.remove(elements)) end
    redis.call('PEXPIRE', items, ttl)
  end
  redis.call('HSET', state, mine, taken(seq, elements))
  if room > 0 then
    for _, element in ipairs(elements) do held = held - size_of(element) end
  end
  local length = max > 0 and redis.call('LLEN', items) or 0
  -- Bounded by the parked puts: each round takes one.
  while (max > 0 and length < max) or (room > 0 and held < room) do
    local next = redis.call('LPOP', parked)
    if not next then break end
    local putter, number = 's:' .. client_of(next), seq_of(next)
    local element = string.sub(redis.call('HGET', state, putter), 14)
    redis.call('RPUSH', items, element)
    redis.call('PEXPIRE', items, ttl)
    redis.call('HSET', state, putter, number .. 'P')
    if redis.call('HGET', state, 'todo') ~= '' then redis.call('HINCRBY', state, 'todo', 1) end
    length, held = length + 1, room > 0 and held + size_of(element) or 0
    post(state, next, {'PUT'})
  end
  redis.call('HSET', state, 'held', held)
  return answer({'ITEMS', unpack(elements)})
end
if closed or block == '0' then
  redis.call('HSET', state, mine, seq .. (closed and 'Z' or 'E'))
  return answer({closed and 'EOF' or 'EMPTY'})
end
redis.call('RPUSH', waiters, (block == '2' and '~' or '') .. ticket)
redis.call('PEXPIRE', waiters, ttl)
redis.call('HSET', state, mine, seq .. 'Q')
return {'QUEUED'}
