-- pool/take
-- @version 1
-- The program takes results, and is done with those it took before. Where there are none
-- its ticket is noted, and whoever brings some posts a hint.
-- KEYS[1] state     hash
-- KEYS[2] results   list of results and news
-- KEYS[3] blobs     set: messages that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request; 12 digits
-- ARGV[3] want      results that may be taken at once
-- Reply RESULTS [element ...] | EMPTY | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I18 the program is told of each task once
--- @include queue, pool
local state, results, blobs = KEYS[1], KEYS[2], KEYS[3]
local client, seq, want = ARGV[1], ARGV[2], tonumber(ARGV[3])

local mine = 's:' .. client
local s = redis.call('HMGET', state, 'fmt', mine)
if s[1] ~= 'pool/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local letter, rest = answered(s[2], seq)
if letter == 'S' then return {'STALE'} end
if letter and rest ~= '0' then
  return {'RESULTS', unpack(redis.call('LRANGE', results, 0, rest - 1))}
end
local before = not letter and s[2] and tonumber(string.sub(s[2], 14)) or 0
-- Bounded by what one request takes.
for _, element in ipairs(before > 0 and redis.call('LPOP', results, before) or {}) do
  drop(state, blobs, element)
end
local found = redis.call('LRANGE', results, 0, want - 1)
-- No more than some megabytes at once.
local bytes, count = 0, 0
while found[count + 1] and bytes < 2097152 do
  count = count + 1
  bytes = bytes + #found[count]
end
redis.call('HSET', state, mine, seq .. 'T' .. count, 'taker', count > 0 and '' or client .. ':' .. seq)
if count == 0 then return {'EMPTY'} end
return {'RESULTS', unpack(found, 1, count)}
