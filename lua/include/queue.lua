-- Items of a queue, or of one end of a pipe. An element is '0' and the message, or '1'
-- or '2' and "size:pieces:id" of one that has keys of its own, which are named here
-- after the state: only the element knows them. They carry the object's hash tag.
local function blob_of(element)
  return string.match(element, '^[^0]%d+:(%d+):(.+)$')
end
local function size_of(element)
  return string.byte(element) == 48 and #element or tonumber(string.match(element, '^.(%d+)'))
end
-- A message is accepted: its keys live as long as the object.
local function keep(state, blobs, element, ttl)
  local pieces, id = blob_of(element)
  if not pieces then return end
  redis.call('SADD', blobs, pieces .. ':' .. id)
  redis.call('PEXPIRE', blobs, ttl)
  for i = 0, pieces - 1 do redis.call('PEXPIRE', state .. ':b:' .. id .. ':' .. i, ttl) end
end
-- A message was read, or will never be.
local function discard(state, blobs, element)
  local pieces, id = blob_of(element)
  if not pieces then return end
  redis.call('SREM', blobs, pieces .. ':' .. id)
  for i = 0, pieces - 1 do redis.call('UNLINK', state .. ':b:' .. id .. ':' .. i) end
end
-- Wake whoever watches the object, at once (`queue/look`).
local function ring(state, stream, ttl)
  local id = redis.call('XADD', stream, 'MAXLEN', 1, '*', 'bell', 1)
  redis.call('PEXPIRE', stream, ttl)
  redis.call('HSET', state, 'last', id, 'watch', 0)
end
-- What a client was given stays in flight until its next request: "b" if it has keys
-- of its own, else "-", and a msgpack array of the request's number and the elements.
local function flight(seq, elements)
  local mark = '-'
  for _, element in ipairs(elements) do
    if string.byte(element) ~= 48 then mark = 'b' end
  end
  return mark .. cmsgpack.pack({seq, unpack(elements)})
end
local function flown(packed)
  local elements = cmsgpack.unpack(string.sub(packed, 2))
  return table.remove(elements, 1), elements
end
-- Give an element to whoever waited longest for one. False if nobody waits.
local function give(state, waiters, element)
  local head = redis.call('ZPOPMIN', waiters)
  if #head == 0 then return false end
  local client, seq = client_of(head[1]), seq_of(head[1])
  redis.call('HSET', state, 'f:' .. client, flight(seq, {element}),
             'r:' .. client, record(seq, {'ITEMS'}))
  post(state, head[1], {'ITEMS', element})
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
