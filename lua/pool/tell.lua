-- pool/tell
-- @version 1
-- News of a worker for the program: it is ready, or could not begin.
-- KEYS[1] state     hash
-- KEYS[2] results   list of results and news
-- KEYS[3] blobs     set: messages that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request; 12 digits
-- ARGV[3] element   what there is to tell
-- Reply OK | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
--- @include object, ticket, queue, pool
local state, results, blobs = KEYS[1], KEYS[2], KEYS[3]
local client, seq, element = ARGV[1], ARGV[2], ARGV[3]

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'ttl', mine)
if s[1] ~= 'pool/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local again = replayed(s[3], seq)
if again then return again end
local large = large_of(element)
if large then keep(state, blobs, large, s[2]) end
redis.call('HSET', state, mine, record(seq, {'OK'}))
tell(state, results, {element}, s[2])
return {'OK'}
