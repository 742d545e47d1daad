-- queue/cancel
-- @version 1
-- Stop waiting for a message or for room. At a time-out what came meanwhile counts;
-- a caller that was interrupted gives a message back. A put that went through stays.
-- KEYS[1] state     hash
-- KEYS[2] waiters   sorted set: ticket of a get -> place
-- KEYS[3] items     list of elements
-- KEYS[4] parked    sorted set: ticket of a put -> place
-- KEYS[5] blobs     set: messages that have keys of their own
-- KEYS[6] mailbox   list of hints of this client
-- ARGV[1] client    process.slot
-- ARGV[2] seq       of the get or put that is given up
-- ARGV[3] keep      1 to keep a message (time-out), 0 to give it back (interrupt)
-- Reply CANCELLED | ITEMS [element ...] | PUT | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I6 after CANCELLED a late copy of the acquire takes nothing
-- I11 messages lie in a queue only while nobody waits for one
-- I13 a message is given to one client, and to another one only if nobody saw it
--- @include object, ticket, queue
local state, waiters, items, parked, blobs, mailbox = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local client, seq, keep_it = ARGV[1], ARGV[2], ARGV[3]

local mine, ticket = 'r:' .. client, client .. ':' .. seq
local s = redis.call('HMGET', state, 'fmt', mine, 'f:' .. client)
if s[1] ~= 'queue/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local again = replayed(s[2], seq)
if again and (again[1] == 'STALE' or again[1] == 'CANCELLED' or again[1] == 'PUT') then
  return again
end
local parked_element = redis.call('HGET', state, 'p:' .. ticket)
if parked_element then
  redis.call('ZREM', parked, ticket)
  redis.call('HDEL', state, 'p:' .. ticket)
  discard(state, blobs, parked_element)
end
redis.call('ZREM', waiters, ticket)
if s[3] then
  local of, elements = flown(s[3])
  if of == seq then
    if keep_it == '1' then return {'ITEMS', unpack(elements)} end
    redis.call('HDEL', state, 'f:' .. client)
    give_back(state, waiters, items, elements, 1)
  end
end
redis.call('DEL', mailbox)
redis.call('HSET', state, mine, record(seq, {'CANCELLED'}))
return {'CANCELLED'}
