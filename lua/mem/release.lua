-- mem/release
-- @version 1
-- Write what the holder of a lock has changed in its regions, and hand the lock on, in one
-- step. Whoever lost the lock writes nothing.
-- KEYS[1] state     hash, state of the lock
-- KEYS[2] waiters   list of tickets, first come first
-- KEYS[3] regions*  two for each region that was changed: its state (hash), its bytes (string)
-- ARGV[1] kind      lock or rlock
-- ARGV[2] keep      1 to write only, and keep the lock
-- ARGV[3] changes   msgpack array, for each region an array: offset, bytes, ...; an empty one
--                   if all its bytes were stored beside
-- ARGV[4] client    process.slot
-- ARGV[5] seq       number of the request
-- ARGV[6] fence     of the acquire this undoes
-- Reply RELEASED | KEPT | VANISHED | LOST | STALE | GONE | VERSION fmt
-- I1 value > 0 implies no waiters
-- I3 repeating a request changes nothing
-- I5 a client whose lock was given away while it stood still is told LOST
-- I14 the version of a region grows whenever its bytes change
-- I15 who lost a lock changes nothing that it guards
--- @include handover, region
local state, waiters, keys = KEYS[1], KEYS[2], KEYS
local kind, keep, changes = ARGV[1], ARGV[2] == '1', cmsgpack.unpack(ARGV[3])
local client, seq, fence = ARGV[4], ARGV[5], ARGV[6]

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'owner', 'fence', mine)
if s[1] ~= 'sem/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local last = s[4]
-- What was stored beside a region is not wanted any more.
local function tidy()
  for i = 1, #changes do
    if #changes[i] == 0 then redis.call('UNLINK', stage_of(keys[2 * i + 2], client, seq)) end
  end
end
if last and last >= seq then
  tidy()
  return string.sub(last, 1, 12) == seq and string.match(last, '\31(%u+)') or 'STALE'
end
if s[2] == '' or s[3] ~= fence then
  tidy()
  redis.call('HSET', state, mine, seq .. '\31LOST')
  return 'LOST'
end

-- All regions are looked at before any is written. Bounded by what the holder changed.
local answer, versions = keep and 'KEPT' or 'RELEASED', {}
for i = 1, #changes do
  local r = redis.call('HMGET', keys[2 * i + 1], 'fmt', 'size', 'version')
  if flaw(r[1], r[2], keys[2 * i + 2], changes[i], client, seq) then answer = 'VANISHED' end
  versions[i] = r[3]
end
for i = 1, answer == 'VANISHED' and 0 or #changes do
  write(keys[2 * i + 1], keys[2 * i + 2], changes[i], client, seq)
  redis.call('HSET', keys[2 * i + 1], 'version', versions[i] + 1)
end
if keep then
  redis.call('HSET', state, mine, seq .. '\31' .. answer)
else
  give_up(state, waiters, kind, 0, fence, mine, seq .. '\31' .. answer)
end
return answer
