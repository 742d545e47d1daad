-- queue/unbind
-- @version 1
-- Give an address up: what was put there and not taken, and the end of it, in one step,
-- so that nothing is put in between that nobody would ever see.
-- KEYS[1] state     hash
-- KEYS[2] refs      sorted set: who refers to the object -> until when (ms), or +inf
-- KEYS[3] waiters   sorted set
-- KEYS[4] stream    of those who watch
-- KEYS[5] items     list of elements
-- KEYS[6] parked    sorted set
-- KEYS[7] blobs     set: messages that have keys of their own
-- ARGV[1] process   whose address it was
-- Reply ITEMS [element ...]
--- @include now, blobs, unref
local items, process = KEYS[5], ARGV[1]
local elements = redis.call('LRANGE', items, 0, -1)
unref(KEYS, process, '0')
return {'ITEMS', unpack(elements)}
