-- pool/step
-- @version 1
-- A worker's one call: the results of what it has done, and the next tasks; or a place in
-- line. What it had in hand and did not begin comes first again. Asked again with the same
-- number it tells how things stand, so it is the idle worker's safety check too.
-- KEYS[1] state     hash, see README
-- KEYS[2] waiters   list of tickets of idle workers, first come first
-- KEYS[3] tasks     list of tasks
-- KEYS[4] results   list of results and news
-- KEYS[5] blobs     set: messages that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request; 12 digits
-- ARGV[3] of        number of the request that took what is in hand; 12 digits
-- ARGV[4] base      how many of those have been reported before
-- ARGV[5] results   msgpack array: what those after them gave; or empty
-- ARGV[6] want      tasks that may be taken at once; 0 to take none and leave
-- Reply TASKS [task ...] | QUEUED | CLOSED | LEFT | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I16 tasks lie there only while no worker is idle
-- I17 a task lies there, is in one hand, or has its result: one of them
--- @include object, ticket, queue, pool
local state, waiters, tasks, results, blobs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local client, seq, of, base = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local given, want = ARGV[5], tonumber(ARGV[6])

local mine, ticket = 't:' .. client, client .. ':' .. seq
local s = redis.call('HMGET', state, 'fmt', 'ttl', 'size', 'closed', mine)
if s[1] ~= 'pool/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local ttl, size, last = s[2], tonumber(s[3]), s[5]
-- Its first request here: was its process buried before it was read?
if not last then last = redis.call('HGET', state, 't:' .. process_of(client)) end
local letter, rest = answered(last, seq)
if letter == 'S' then return {'STALE'} end
if letter == 'H' then
  local hand = cmsgpack.unpack(rest)
  return {'TASKS', unpack(hand, 2)}
end
if letter == 'C' then return {'CLOSED'} end
if letter == 'D' then return {'LEFT'} end
if letter == 'Q' then
  if redis.call('LPOS', waiters, ticket) then return {'QUEUED'} end
else
  local had, hand = answered(last, of)
  hand = had == 'H' and cmsgpack.unpack(hand) or nil
  accept(state, results, blobs, hand, base, given == '' and {} or cmsgpack.unpack(given), ttl)
  if hand and hand[1] + 1 < #hand then put_back(state, tasks, hand, hand[1], ttl) end
end
if want == 0 then
  redis.call('HSET', state, mine, seq .. 'D')
  deal(state, waiters, tasks)
  return {'LEFT'}
end
-- A fair share: the others come for theirs.
local share = math.floor(redis.call('LLEN', tasks) / size)
local found = redis.call('LPOP', tasks, math.max(1, math.min(want, share)))
if found then
  -- One that a worker died with comes alone, so that nobody else's result is at stake.
  local count = 1
  if string.byte(found[1]) == 48 then
    while found[count + 1] and string.byte(found[count + 1]) == 48 do count = count + 1 end
  end
  table.insert(found, 1, 0)
  if found[count + 2] then put_back(state, tasks, found, count, ttl) end
  hold(state, client, seq, found)
  deal(state, waiters, tasks)
  found[1] = 'TASKS'
  return found
end
if s[4] == '1' then
  redis.call('HSET', state, mine, seq .. 'C')
  return {'CLOSED'}
end
redis.call('RPUSH', waiters, ticket)
redis.call('PEXPIRE', waiters, ttl)
redis.call('HSET', state, mine, seq .. 'Q')
return {'QUEUED'}
