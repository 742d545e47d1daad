-- dict/read
-- @version 1
-- Read entries in their order, page by page. What is changed meanwhile is in the reader's
-- mailbox (`dict/catch`); nothing that was overwritten goes before the reader has closed
-- (`store/close`), or was silent for a minute. All that fits in a page needs neither.
-- KEYS[1] state     hash
-- KEYS[2] entries   hash: key -> element
-- KEYS[3] order     sorted set: key, by when it was new
-- KEYS[4] objects   hash: key -> the object it was, if the key does not say
-- KEYS[5] mailbox   list: keys whose entries were changed
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request that began
-- ARGV[3] after     place of the last entry it has; empty to begin
-- ARGV[4] last      place at which the first page said that it ends; what is added later is
--                   among the changes
-- ARGV[5] count     of entries in a page
-- Reply ALL [key place element object ...] | PAGE last [...] | AGAIN | GONE | VERSION fmt
-- I20 what a reader is answered was there together at one moment
--- @include now, store, reader, page
local state, entries, order, objects, mailbox = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local client, seq, after, last, count = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local s = redis.call('HMGET', state, 'fmt', 'size', 'rich', 'open', 'n')
if s[1] ~= 'dict/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local size = tonumber(s[2])
if redis.call('HLEN', entries) ~= size or redis.call('ZCARD', order) ~= size then return {'GONE'} end
local readers = readers_of(s[4])
if after ~= '' and not readers[client] then return {'AGAIN'} end
local from = after == '' and '-inf' or '(' .. after
if after == '' then last = s[5] end
local found = redis.call('ZRANGEBYSCORE', order, from, last, 'LIMIT', 0, count)
local reply, some = entries_of(entries, order, objects, found, count)
if after == '' then
  if some == size and s[3] == '0' then
    table.insert(reply, 1, 'ALL')
    return reply
  end
  if not begins(state, client, seq) then return {'AGAIN'} end
  redis.call('DEL', mailbox)
end
reads(state, readers, client, seq)
table.insert(reply, 1, last)
table.insert(reply, 1, 'PAGE')
return reply
