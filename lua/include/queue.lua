-- Items of a queue, or of one end of a pipe. An element is '0' and the message, or '1' to
-- '4' and "size:pieces:name" of one that has keys of its own, which are named here after
-- the state: only the element knows them. They carry the object's hash tag.
local function blob_of(element)
  return string.match(element, '^[^0]%d+:(%d+):(.+)$')
end
local function size_of(element)
  return string.byte(element) == 48 and #element or tonumber(string.match(element, '^.(%d+)'))
end
-- A message is accepted: its keys live as long as the object.
local function keep(state, blobs, element, ttl)
  local pieces, name = blob_of(element)
  if not pieces then return end
  redis.call('SADD', blobs, pieces .. ':' .. name)
  redis.call('PEXPIRE', blobs, ttl)
  for i = 0, pieces - 1 do redis.call('PEXPIRE', state .. ':b:' .. name .. ':' .. i, ttl) end
end
-- A message was read, or will never be.
local function discard(state, blobs, element)
  local pieces, name = blob_of(element)
  if not pieces then return end
  redis.call('SREM', blobs, pieces .. ':' .. name)
  for i = 0, pieces - 1 do redis.call('UNLINK', state .. ':b:' .. name .. ':' .. i) end
end
-- Wake whoever watches the object, at once (`queue/look`).
local function ring(state, stream, ttl)
  local id = redis.call('XADD', stream, 'MAXLEN', 1, '*', 'bell', 1)
  redis.call('PEXPIRE', stream, ttl)
  redis.call('HSET', state, 'last', id, 'watch', 0)
end
-- A client's last get or put: 12 digits of its number, a letter for the answer, and
-- what goes with it. Returns letter and rest if it is this request again, 'S' if a later
-- one was answered, nil if it is new.
local function answered(last, seq)
  if not last or last < seq then return nil end
  if string.sub(last, 1, 12) ~= seq then return 'S' end
  return string.sub(last, 13, 13), string.sub(last, 14)
end
-- What a client has taken: 'I' and the element, 'B' if it has keys of its own, 'M' and a
-- msgpack array of several that have none.
local function taken(seq, elements)
  if #elements > 1 then return seq .. 'M' .. cmsgpack.pack(elements) end
  return seq .. (string.byte(elements[1]) == 48 and 'I' or 'B') .. elements[1]
end
local function elements_of(letter, rest)
  if letter == 'I' or letter == 'B' then return {rest} end
  return letter == 'M' and cmsgpack.unpack(rest) or {}
end
-- Give an element to whoever waited longest for one. False if nobody waits.
local function give(state, waiters, element)
  local ticket = redis.call('LPOP', waiters)
  if not ticket then return false end
  redis.call('HSET', state, 't:' .. client_of(ticket), taken(seq_of(ticket), {element}))
  post(state, ticket, {'ITEMS', element})
  return true
end
-- Elements that were given to somebody who never saw them come first again.
local function give_back(state, waiters, items, elements, from)
  local s = redis.call('HMGET', state, 'room', 'ttl')
  -- Bounded by what one request takes.
  while elements[from] and give(state, waiters, elements[from]) do from = from + 1 end
  for i = #elements, from, -1 do
    redis.call('LPUSH', items, elements[i])
    if s[1] ~= '0' then redis.call('HINCRBY', state, 'held', size_of(elements[i])) end
  end
  redis.call('PEXPIRE', items, s[2])
end
