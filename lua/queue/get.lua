-- queue/get
-- @version 1
-- Take messages, or stand in line for one. What the client was given before is done
-- with. Asked again with the same number it tells how things stand, so it is the
-- waiter's safety check too.
-- KEYS[1] peer      state of the pipe's end that writes; of a queue the state itself
-- KEYS[2] state     hash, see README
-- KEYS[3] waiters   sorted set: ticket of a get -> place
-- KEYS[4] items     list of elements
-- KEYS[5] parked    sorted set: ticket of a put -> place
-- KEYS[6] blobs     set: messages that have keys of their own
-- ARGV[1] block     1 to stand in line, 0 to give up at once, 2 to stand in line and
--                   have a hint in any case: the caller blocks on its mailbox already
-- ARGV[2] client    process.slot
-- ARGV[3] seq       number of the request; 12 digits
-- ARGV[4] want      messages that may be taken at once, while no other process reads
-- Reply ITEMS [element ...] | QUEUED | EMPTY | EOF | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I11 messages lie in a queue only while nobody waits for one
-- I12 a put is parked only while there is no room
-- I13 a message is given to one client, and to another one only if nobody saw it
--- @include object, ticket, queue
local peer, state, waiters, items, parked, blobs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local block, client, seq, want = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local mine, flying = 'r:' .. client, 'f:' .. client
local s = redis.call('HMGET', state, 'fmt', 'max', 'room', 'held', 'todo', 'reader', 'ttl', mine, flying)
if s[1] ~= 'queue/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local max, room, held, todo, reader, ttl = tonumber(s[2]), tonumber(s[3]), tonumber(s[4]), s[5], s[6], s[7]
local last, ticket = s[8], client .. ':' .. seq
-- Its first request here: was its process seen to end before it was read?
if not last then last = redis.call('HGET', state, 'r:' .. process_of(client)) end

local function answer(reply)
  if block == '2' then post(state, ticket, {'ASK'}) end
  return reply
end
local again = replayed(last, seq)
if again then
  if again[1] == 'ITEMS' and s[9] then
    local of, elements = flown(s[9])
    if of == seq then return answer({'ITEMS', unpack(elements)}) end
  end
  if again[1] ~= 'QUEUED' then return answer(again) end
  if redis.call('ZSCORE', waiters, ticket) and (peer == state or redis.call('EXISTS', peer) == 1) then
    return again
  end
  -- Struck off as dead, or the other end went without a word.
  redis.call('ZREM', waiters, ticket)
end
if s[9] and string.byte(s[9]) == 98 then
  local _, elements = flown(s[9])
  for _, element in ipairs(elements) do discard(state, blobs, element) end
end
local process = process_of(client)
if reader ~= process then
  reader = reader == '' and process or '*'
  redis.call('HSET', state, 'reader', reader)
  if reader == '*' then want = 1 end
end

local elements = redis.call('LPOP', items, want)
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
  redis.call('HSET', state, mine, record(seq, {'ITEMS'}), flying, flight(seq, elements))
  if room > 0 then
    for _, element in ipairs(elements) do held = held - size_of(element) end
    redis.call('HSET', state, 'held', held)
  end
  local length = max > 0 and redis.call('LLEN', items) or 0
  -- Bounded by the parked puts: each round takes one.
  while (max > 0 and length < max) or (room > 0 and held < room) do
    local head = redis.call('ZPOPMIN', parked)
    if #head == 0 then break end
    local element = redis.call('HGET', state, 'p:' .. head[1])
    redis.call('HDEL', state, 'p:' .. head[1])
    redis.call('RPUSH', items, element)
    redis.call('PEXPIRE', items, ttl)
    if todo ~= '' then redis.call('HINCRBY', state, 'todo', 1) end
    length, held = length + 1, room > 0 and held + size_of(element) or 0
    redis.call('HSET', state, 'held', held,
               'r:' .. client_of(head[1]), record(seq_of(head[1]), {'PUT'}))
    post(state, head[1], {'PUT'})
  end
  return answer({'ITEMS', unpack(elements)})
end
if s[9] then redis.call('HDEL', state, flying) end
local eof = peer ~= state and redis.call('EXISTS', peer) == 0
if eof or block == '0' then
  local reply = {eof and 'EOF' or 'EMPTY'}
  redis.call('HSET', state, mine, record(seq, reply))
  return answer(reply)
end
redis.call('ZADD', waiters, redis.call('HINCRBY', state, 'n', 1), ticket)
redis.call('PEXPIRE', waiters, ttl)
redis.call('HSET', state, mine, record(seq, {'QUEUED'}))
return {'QUEUED'}
