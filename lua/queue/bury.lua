-- queue/bury
-- @version 1
-- A process has ended: strike it off the lines, and give on what it was given and never
-- saw. What it saw is delivered at most once, or again if the queue was made for that.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets of gets, first come first
-- KEYS[3] items     list of elements
-- KEYS[4] parked    list of tickets of puts, first come first
-- KEYS[5] blobs     set: messages that have keys of their own
-- ARGV[1] process   that ended
-- ARGV[2] died      how; empty for a normal exit
-- ARGV[3] seen      msgpack map: slot -> {number, count}: its last get whose messages
--                   were used, and how many of them; empty if that is not known
-- Reply BURIED | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I11 messages lie in a queue only while nobody waits for one
-- I13 a message is given to one client, and to another one only if nobody saw it
--- @include object, ticket, queue
local state, waiters, items, parked, blobs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local process, died, seen = ARGV[1], ARGV[2], ARGV[3]

local s = redis.call('HMGET', state, 'fmt', 'redeliver')
if s[1] ~= 'queue/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
seen = seen ~= '' and cmsgpack.unpack(seen) or nil

-- Bounded by those who wait: each is looked at once.
for _, ticket in ipairs(redis.call('LRANGE', waiters, 0, -1)) do
  if process_of(ticket) == process then redis.call('LREM', waiters, 1, ticket) end
end
for _, ticket in ipairs(redis.call('LRANGE', parked, 0, -1)) do
  if process_of(ticket) == process then
    redis.call('LREM', parked, 1, ticket)
    -- One that was only taken for dead puts it anew, and brings no keys along.
    if seen then
      local putter, number = 's:' .. client_of(ticket), seq_of(ticket)
      local _, element = answered(redis.call('HGET', state, putter), number)
      discard(state, blobs, element)
      redis.call('HSET', state, putter, number .. 'C')
    end
  end
end
local function used_of(client, seq, count)
  if s[2] == '1' and died ~= '' then return 0 end
  if not seen then return count end
  local known = seen[string.match(client, '%.(.+)$')]
  if not known or known[1] < seq then return 0 end
  return known[1] == seq and known[2] or count
end
-- A process that was seen to end asks no more: what is read of it now was on its way,
-- and would take a message with it. A number that comes after all of its own says so.
local over = '999999999999G'
if seen then redis.call('HSET', state, 't:' .. process, over) end
-- Bounded by the fields of the state.
for _, field in ipairs(redis.call('HKEYS', state)) do
  local client = string.match(field, '^t:(.+)')
  if client and process_of(client) == process then
    local record = redis.call('HGET', state, field)
    local seq = string.sub(record, 1, 12)
    local elements = elements_of(answered(record, seq))
    if #elements > 0 then
      local used = used_of(client, seq, #elements)
      redis.call('HSET', state, field, seq .. 'G')
      for i = 1, used do discard(state, blobs, elements[i]) end
      give_back(state, waiters, items, elements, used + 1)
    end
    if seen then redis.call('HSET', state, field, over) end
  end
end
return {'BURIED'}
