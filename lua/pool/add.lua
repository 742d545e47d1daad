-- pool/add
-- @version 1
-- Tasks for the workers: those that are idle get them at once, the others lie there.
-- KEYS[1] state     hash, see README
-- KEYS[2] waiters   list of tickets of idle workers, first come first
-- KEYS[3] tasks     list of tasks
-- KEYS[4] blobs     set: messages that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request; 12 digits
-- ARGV[3] task      the first one
-- ARGV[4] more      msgpack array of further ones; or empty
-- Reply PUT | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I16 tasks lie there only while no worker is idle
--- @include object, ticket, queue, pool
local state, waiters, tasks, blobs = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local client, seq, task, more = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local mine = 's:' .. client
local s = redis.call('HMGET', state, 'fmt', 'ttl', mine)
local added = more == '' and {} or cmsgpack.unpack(more)
table.insert(added, 1, task)
if s[1] ~= 'pool/1' then
  if s[1] then return {'VERSION', s[1]} end
  -- Nobody will read them.
  for _, found in ipairs(added) do drop(state, blobs, found) end
  return {'GONE'}
end
local letter = answered(s[3], seq)
if letter then return {letter == 'P' and 'PUT' or 'STALE'} end
-- Bounded by the tasks of the request.
for _, found in ipairs(added) do
  local large = large_of(found)
  if large then keep(state, blobs, large, s[2]) end
end
for i = 1, #added, 1000 do
  redis.call('RPUSH', tasks, unpack(added, i, math.min(#added, i + 999)))
end
redis.call('PEXPIRE', tasks, s[2])
redis.call('HSET', state, mine, seq .. 'P')
deal(state, waiters, tasks)
return {'PUT'}
