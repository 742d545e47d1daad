-- dict/catch
-- @version 1
-- What became of the entries that were changed while the client read: as they are now. With
-- nothing left, all that the client has is of this moment.
-- KEYS[1] state     hash
-- KEYS[2] entries   hash: key -> element
-- KEYS[3] order     sorted set: key, by when it was new
-- KEYS[4] objects   hash: key -> the object it was, if the key does not say
-- KEYS[5] mailbox   list: keys whose entries were changed
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request that began
-- ARGV[3] from      how many changes it has seen
-- ARGV[4] count     of changes in a page
-- Reply CAUGHT left seen [key place element object ...] | AGAIN | GONE | VERSION fmt
-- I20 what a reader is answered was there together at one moment
--- @include now, store, reader, page
local state, entries, order, objects, mailbox = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local client, seq, from, count = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local s = redis.call('HMGET', state, 'fmt', 'open')
if s[1] ~= 'dict/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local readers = readers_of(s[2])
if not readers[client] then return {'AGAIN'} end
reads(state, readers, client, seq)
local found = redis.call('LRANGE', mailbox, from, from + count - 1)
-- One that was changed often is answered once. Bounded by the changes in a page.
local distinct, first = {}, {}
for i, key in ipairs(found) do
  if not first[key] then
    first[key] = i
    distinct[#distinct + 1] = key
  end
end
local reply, some = entries_of(entries, order, objects, distinct, count)
local seen = distinct[some + 1] and first[distinct[some + 1]] - 1 or #found
table.insert(reply, 1, seen)
table.insert(reply, 1, redis.call('LLEN', mailbox) - from - seen)
table.insert(reply, 1, 'CAUGHT')
return reply
