-- object/delete
-- @version 1
-- Delete an object, whoever refers to it: its manager is shut down.
-- KEYS[1] state     hash
-- KEYS[2] refs      sorted set: who refers to the object -> until when (ms), or +inf
-- KEYS[3] waiters   list or sorted set
-- KEYS[4] stream    of those who watch
-- KEYS[5] items     list
-- KEYS[6] parked    list
-- KEYS[7] blobs     set: messages that have keys of their own
-- Reply DELETED [pin object ...]
--- @include now, blobs, pins, unref
local keys, refs = KEYS, KEYS[2]
redis.call('DEL', refs)
local _, reply = unref(keys, '', '0')
table.insert(reply, 1, 'DELETED')
return reply
