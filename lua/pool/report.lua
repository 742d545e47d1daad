-- pool/report
-- @version 1
-- A worker is busy with one task for longer: results of what it did before, and what it has
-- in hand and has not begun, for others. Names the request that took its hand, and places in
-- it, so it hits those or nothing.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets of idle workers, first come first
-- KEYS[3] tasks     list of tasks
-- KEYS[4] results   list of results and news
-- KEYS[5] blobs     set: messages that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] of        number of the request that took what is in hand; 12 digits
-- ARGV[3] base      how many of those have been reported before
-- ARGV[4] results   msgpack array: what those after them gave; or empty
-- ARGV[5] begun     how many of those in hand have been begun: they stay
-- Reply OK | GONE | VERSION fmt
-- I16 tasks lie there only while no worker is idle
-- I17 a task lies there, is in one hand, or has its result: one of them
--- @include object, ticket, queue, pool
local state, waiters, tasks, results, blobs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local client, of, base, given = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local begun = tonumber(ARGV[5])

local s = redis.call('HMGET', state, 'fmt', 'ttl', 't:' .. client)
if s[1] ~= 'pool/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local letter, hand = answered(s[3], of)
hand = letter == 'H' and cmsgpack.unpack(hand) or nil
accept(state, results, blobs, hand, base, given == '' and {} or cmsgpack.unpack(given), s[2])
if hand then
  if begun + 1 < #hand then put_back(state, tasks, hand, begun, s[2]) end
  hold(state, client, of, hand)
  deal(state, waiters, tasks)
end
return {'OK'}
