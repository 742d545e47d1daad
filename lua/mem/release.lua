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
local state, waiters, keys = KEYS[1], KEYS[2], KEYS
local kind, keep, changes = ARGV[1], ARGV[2] == '1', cmsgpack.unpack(ARGV[3])
local client, seq, fence = ARGV[4], ARGV[5], ARGV[6]

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'owner', 'fence', mine)
if s[1] ~= 'sem/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local last = s[4]
local new = not last or last < seq
-- Whoever takes a lock away changes the fence, so an equal one is still ours.
local ours = s[2] ~= '' and s[3] == fence

-- The way of a first request with one region comes before any other function is defined.
--- @include handover
local ranges = changes[1]
if new and ours and #changes == 1 and #ranges > 0 and not keep then
  local region, items = keys[3], keys[4]
  local r = redis.call('HMGET', region, 'fmt', 'size', 'version')
  if r[1] == 'mem/1' and redis.call('STRLEN', items) == tonumber(r[2]) then
    -- Bounded by what one request brings.
    for i = 1, #ranges, 2 do redis.call('SETRANGE', items, ranges[i], ranges[i + 1]) end
    redis.call('HSET', region, 'version', r[3] + 1)
    give_up(state, waiters, kind, 0, fence, mine, seq .. '\31RELEASED')
    return 'RELEASED'
  end
end

--- @include region
if not (new and ours) then
  -- What was stored beside a region is not wanted any more.
  for i = 1, #changes do
    if #changes[i] == 0 then redis.call('UNLINK', stage_of(keys[2 * i + 2], client, seq)) end
  end
  if not new then
    return string.sub(last, 1, 12) == seq and string.match(last, '\31(%u+)') or 'STALE'
  end
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
