-- queue/unbind
-- @version 1
-- Give an address up: what was put there and not taken, and the end of it, in one step,
-- so that nothing is put in between that nobody would ever see. What it was is kept under
-- the request, which may come again, until the process deletes it. While others refer to
-- the address it stays theirs, with all that lies there.
-- KEYS[1] state     hash
-- KEYS[2] refs      sorted set: who refers to the object -> until when (ms), or +inf
-- KEYS[3] waiters   list of tickets of gets, first come first
-- KEYS[4] stream    bell of those who watch
-- KEYS[5] items     list of elements
-- KEYS[6] parked    list of tickets of puts, first come first
-- KEYS[7] blobs     set: messages that have keys of their own
-- KEYS[8] answer    list of elements: what lay there
-- ARGV[1] process   that lets go
-- ARGV[2] owner     "process request", as it was bound: not what is bound there since
-- Reply ITEMS [element ...]
-- I3 repeating a request changes nothing
--- @include now, blobs, pins, unref
local own = {KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]}
local state, items, answer, process, owner = KEYS[1], KEYS[5], KEYS[8], ARGV[1], ARGV[2]
local s = redis.call('HMGET', state, 'owner', 'ttl')
if s[1] == owner then
  local elements = redis.call('LRANGE', items, 0, -1)
  if not unref(own, process, '0') then return {'ITEMS'} end
  -- Bounded by what lay there.
  for _, element in ipairs(elements) do redis.call('RPUSH', answer, element) end
  redis.call('PEXPIRE', answer, s[2])
end
local reply = redis.call('LRANGE', answer, 0, -1)
table.insert(reply, 1, 'ITEMS')
return reply
