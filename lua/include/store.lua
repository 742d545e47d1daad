-- What a dict or list keeps: elements. The first byte says of which kind one is. '0' and the
-- small letters have the value in them. '1' to '4' and "size:pieces:name" is a large one,
-- which has keys of its own; they are named here after the state and carry its hash tag.
-- 'r', a length, ':', a msgpack array of that length and an element: the value refers to
-- other objects, which the array names: pin, object, ... The state holds them (`p:PIN`).
local READING_MS = 60000
local ANSWERS = {S = 'SET', A = 'ADDED'}
local function is_plain(element)
  local kind = string.byte(element)
  return kind ~= 114 and (kind < 49 or kind > 52)
end
-- The pins of an element, and the pieces and name of a large one.
local function parts(element)
  local size, pins = string.match(element, '^r(%d+):'), {}
  if size then
    local at = #size + 3
    pins = cmsgpack.unpack(string.sub(element, at, at + size - 1))
    element = string.sub(element, at + size)
  end
  local pieces, name = string.match(element, '^[1-4]%d+:(%d+):(.+)$')
  return pins, pieces, name
end
-- A client's last request: 12 digits of its number, a letter for the answer, or 'X' and the
-- answer as msgpack; 'L' if a large element is in it that nobody else has: its keys go with
-- the client's next request.
local function replayed(last, seq)
  if not last or last < seq then return nil end
  if string.sub(last, 1, 12) ~= seq then return {'STALE'} end
  local word = ANSWERS[string.sub(last, 13, 13)]
  return word and {word} or cmsgpack.unpack(string.sub(last, 14))
end
-- Those who read page by page, as "client seq deadline ..." in the state.
local function readers_of(open)
  local found, time = {}, open ~= '' and now() or 0
  -- Bounded by those who read at this moment, and by the dead of the last minute.
  for client, seq, deadline in string.gmatch(open, '(%S+) (%d+) (%d+)') do
    if tonumber(deadline) > time then found[client] = seq .. ' ' .. deadline end
  end
  return found
end
local function open_of(readers)
  local words = {}
  for client, which in pairs(readers) do words[#words + 1] = client .. ' ' .. which end
  table.sort(words)
  return table.concat(words, ' ')
end
-- An element is kept: so are the keys of a large one, and what it refers to.
local function keep(c, element)
  if is_plain(element) then return end
  local pins, pieces, name = parts(element)
  c.rich = '1'
  for i = 1, #pins, 2 do redis.call('HSET', c.state, 'p:' .. pins[i], pins[i + 1]) end
  if not pieces then return end
  redis.call('SADD', c.blobs, pieces .. ':' .. name)
  redis.call('PEXPIRE', c.blobs, c.ttl)
  for i = 0, pieces - 1 do redis.call('PEXPIRE', c.state .. ':b:' .. name .. ':' .. i, c.ttl) end
end
local function discard(c, pieces, name)
  redis.call('SREM', c.blobs, pieces .. ':' .. name)
  for i = 0, pieces - 1 do redis.call('UNLINK', c.state .. ':b:' .. name .. ':' .. i) end
end
-- What it refers to is not held any more: the client that hears so lets go of it.
local function unpin(c, pins)
  for i = 1, #pins, 2 do
    redis.call('HDEL', c.state, 'p:' .. pins[i])
    c.freed[#c.freed + 1] = pins[i]
    c.freed[#c.freed + 1] = pins[i + 1]
  end
end
-- An element was overwritten or deleted. Whoever reads page by page may have it and ask
-- for what it stands for: then it goes with the last of those.
local function let_go(c, element)
  if is_plain(element) then return end
  local pins, pieces, name = parts(element)
  if next(c.readers) then
    local packed = cmsgpack.pack(pins)
    local large = pieces and '10:' .. pieces .. ':' .. name or '0'
    redis.call('RPUSH', c.trash, 'r' .. #packed .. ':' .. packed .. large)
    redis.call('PEXPIRE', c.trash, c.ttl)
    return
  end
  unpin(c, pins)
  if pieces then discard(c, pieces, name) end
end
local function empty_trash(c)
  -- Bounded by what was overwritten while somebody read.
  for _, element in ipairs(redis.call('LRANGE', c.trash, 0, -1)) do let_go(c, element) end
  redis.call('DEL', c.trash)
end
-- The client takes an element away: its answer has it. The keys of a large one stay until
-- the client's next request. True if it is a large one.
local function hand_out(c, element)
  if is_plain(element) then return false end
  local pins, pieces = parts(element)
  if next(c.readers) then
    local packed = cmsgpack.pack(pins)
    redis.call('RPUSH', c.trash, 'r' .. #packed .. ':' .. packed .. '0')
    redis.call('PEXPIRE', c.trash, c.ttl)
  else
    unpin(c, pins)
  end
  return pieces ~= nil
end
-- What the client took last is done with. The element is the second word of the answer.
local function forget(c, last)
  if last and string.sub(last, 13, 13) == 'L' then
    local _, pieces, name = parts(cmsgpack.unpack(string.sub(last, 14))[2])
    let_go(c, '10:' .. pieces .. ':' .. name)
  end
end
-- Those who read no more go; the last one takes along what was kept for it.
local function close(c, client)
  for reader in pairs(c.readers) do
    if not client or string.match(reader, '^[^.]+') == client or reader == client then
      c.readers[reader] = nil
      redis.call('DEL', c.state .. ':m:' .. reader)
    end
  end
  if not next(c.readers) then empty_trash(c) end
  redis.call('HSET', c.state, 'open', open_of(c.readers))
end
-- The answer, and behind it what it frees.
local function freeing(c, reply)
  if #c.freed > 0 then reply[#reply + 1] = c.freed end
  return reply
end
local function finish(c, reply, large)
  freeing(c, reply)
  redis.call('HSET', c.state, 'rich', c.rich, 'open', open_of(c.readers), 'r:' .. c.client,
             c.seq .. (large and 'L' or 'X') .. cmsgpack.pack(reply))
  return reply
end
