-- object/unref
-- @version 1
-- A process does not refer to an object any more. The last one deletes it. A main
-- program that is over takes the pins of its processes with it; where other pins
-- are all that is left, the object expires with the last of them.
-- KEYS[1] state     hash
-- KEYS[2] refs      sorted set: who refers to the object -> until when (ms), or +inf
-- KEYS[3] waiters   list or sorted set
-- KEYS[4] stream    of those who watch
-- KEYS[5] items     list
-- KEYS[6] parked    list
-- KEYS[7] blobs     set: messages that have keys of their own
-- ARGV[1] process   that lets go
-- ARGV[2] ended     1 if the process is over: its mailboxes go, and later its answers
-- Reply OK | DELETED [pin object ...]
--- @include now, blobs, pins, unref
local process, ended = ARGV[1], ARGV[2]
local last, reply = unref(KEYS, process, ended)
table.insert(reply, 1, last and 'DELETED' or 'OK')
return reply
