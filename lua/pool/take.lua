-- pool/take
-- @version 1
-- The program takes results, and is done with those it took before. Where there are none
-- its ticket is noted, and whoever brings some posts a hint.
-- KEYS[1] state     hash
-- KEYS[2] results   list of results and news
-- KEYS[3] blobs     set: messages that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request; 12 digits
-- ARGV[3] got       how many results it has received, ever: they go
-- ARGV[4] want      results that may be taken at once
-- Reply RESULTS [element ...] | EMPTY | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I18 the program is told of each task once
--- @include queue, pool
local state, results, blobs = KEYS[1], KEYS[2], KEYS[3]
local client, seq, got, want = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local mine = 's:' .. client
local s = redis.call('HMGET', state, 'fmt', mine, 'gone')
if s[1] ~= 'pool/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
if answered(s[2], seq) == 'S' then return {'STALE'} end
-- Bounded by what one request takes.
if got > tonumber(s[3]) then
  for _, element in ipairs(redis.call('LPOP', results, got - s[3])) do
    drop(state, blobs, element)
  end
end
local found = redis.call('LRANGE', results, 0, want - 1)
-- No more than some megabytes at once.
local bytes, count = 0, 0
while found[count + 1] and bytes < 2097152 do
  count = count + 1
  bytes = bytes + #found[count]
end
local taker = count == 0 and client .. ':' .. seq or ''
redis.call('HSET', state, mine, seq .. 'T', 'gone', got, 'taker', taker)
if count == 0 then return {'EMPTY'} end
return {'RESULTS', unpack(found, 1, count)}
