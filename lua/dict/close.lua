-- dict/close
-- @version 1
-- The client has read what it wanted. What was kept for it goes, unless others read.
-- KEYS[1] state     hash
-- KEYS[2] trash     list: what goes with the last reader
-- KEYS[3] blobs     set: elements that have keys of their own
-- ARGV[1] client    process.slot
-- Reply OK [pin object ...] | GONE | VERSION fmt
--- @include now, store
local state, trash, blobs, client = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local s = redis.call('HMGET', state, 'fmt', 'open')
if s[1] ~= 'dict/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local c = {state = state, trash = trash, blobs = blobs, readers = readers_of(s[2]), freed = {}}
close(c, client)
table.insert(c.freed, 1, 'OK')
return c.freed
