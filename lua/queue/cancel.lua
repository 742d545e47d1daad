-- queue/cancel
-- @version 1
-- Stop waiting for a message or for room. At a time-out what came meanwhile counts;
-- a caller that was interrupted gives a message back. A put that went through stays.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets of gets, first come first
-- KEYS[3] items     list of elements
-- KEYS[4] parked    list of tickets of puts, first come first
-- KEYS[5] blobs     set: messages that have keys of their own
-- KEYS[6] mailbox   list of hints of this client
-- ARGV[1] what      get or put
-- ARGV[2] client    process.slot
-- ARGV[3] seq       of the get or put that is given up
-- ARGV[4] keep      1 to keep a message (time-out), 0 to give it back (interrupt)
-- Reply CANCELLED | ITEMS [element ...] | PUT | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I6 after CANCELLED or LEFT a late copy of the acquire or the wait takes nothing
-- I11 messages lie in a queue only while nobody waits for one
-- I13 a message is given to one client, and to another one only if nobody saw it
--- @include object, ticket, queue
local state, waiters, items = KEYS[1], KEYS[2], KEYS[3]
local parked, blobs, mailbox = KEYS[4], KEYS[5], KEYS[6]
local what, client, seq, keep_it = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local mine, ticket = (what == 'get' and 't:' or 's:') .. client, client .. ':' .. seq
local s = redis.call('HMGET', state, 'fmt', mine)
if s[1] ~= 'queue/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local letter, rest = answered(s[2], seq)
if letter == 'S' then return {'STALE'} end
if letter == 'P' then return {'PUT'} end
local elements = what == 'get' and elements_of(letter, rest) or {}
if #elements > 0 and keep_it == '1' then return {'ITEMS', unpack(elements)} end
if letter == 'K' and redis.call('LREM', parked, 1, ticket) == 1 then discard(state, blobs, rest) end
redis.call('LREM', waiters, 1, ticket)
redis.call('LREM', waiters, 1, '~' .. ticket)
redis.call('DEL', mailbox)
redis.call('HSET', state, mine, seq .. 'C')
if #elements > 0 then give_back(state, waiters, items, elements, 1) end
return {'CANCELLED'}
