-- queue/settle
-- @version 1
-- A process does something else than taking messages: those that it took at once and
-- did not use come first again, the others are done with. Names the request that took
-- them, so it hits that one or nothing.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets of gets, first come first
-- KEYS[3] items     list of elements
-- KEYS[4] blobs     set: messages that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] of        number of the get
-- ARGV[3] used      how many of its messages were used
-- Reply OK | GONE | VERSION fmt
-- I11 messages lie in a queue only while nobody waits for one
-- I13 a message is given to one client, and to another one only if nobody saw it
--- @include object, ticket, queue
local state, waiters, items, blobs = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local client, of, used = ARGV[1], ARGV[2], tonumber(ARGV[3])

local s = redis.call('HMGET', state, 'fmt', 't:' .. client)
if s[1] ~= 'queue/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local elements = elements_of(answered(s[2], of))
if #elements == 0 then return {'OK'} end
redis.call('HSET', state, 't:' .. client, of .. 'G')
for i = 1, used do discard(state, blobs, elements[i]) end
give_back(state, waiters, items, elements, used + 1)
return {'OK'}
