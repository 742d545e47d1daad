-- list/page
-- @version 1
-- A page of the copy that `list/read` made for the client.
-- KEYS[1] state     hash
-- KEYS[2] mailbox   list: the copy
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request that began
-- ARGV[3] from      index of the first element
-- ARGV[4] count     of elements in a page
-- Reply PAGE [element ...] | AGAIN | GONE | VERSION fmt
-- I20 what a reader is answered was there together at one moment
--- @include now, store, reader
local state, mailbox = KEYS[1], KEYS[2]
local client, seq, from, count = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local s = redis.call('HMGET', state, 'fmt', 'open')
if s[1] ~= 'list/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local readers = readers_of(s[2])
if not readers[client] or redis.call('EXISTS', mailbox) == 0 then return {'AGAIN'} end
reads(state, readers, client, seq)
redis.call('PEXPIRE', mailbox, READING_MS)
local reply = redis.call('LRANGE', mailbox, from, from + count - 1)
table.insert(reply, 1, 'PAGE')
return reply
