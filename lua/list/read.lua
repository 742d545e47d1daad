-- list/read
-- @version 1
-- The elements of a slice. What does not fit in a page is copied at once and read from the
-- copy, which lies in the client's mailbox until it closes (`store/close`), a minute at most.
-- KEYS[1] state     hash
-- KEYS[2] items     list of elements
-- KEYS[3] mailbox   list: the copy
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] start     of the slice, as in Python; empty for None
-- ARGV[4] stop      the same
-- ARGV[5] step      the same
-- ARGV[6] count     of elements in a page
-- Reply ALL version [element ...] | COPIED version size | AGAIN | GONE | VERSION fmt
-- I20 what a reader is answered was there together at one moment
--- @include now, store, reader, range
local state, items, mailbox = KEYS[1], KEYS[2], KEYS[3]
local client, seq, start, stop = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local step, page = ARGV[5], tonumber(ARGV[6])
local PAGE_BYTES = 1048576
local s = redis.call('HMGET', state, 'fmt', 'version', 'size', 'rich', 'open')
if s[1] ~= 'list/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local size = tonumber(s[3])
if redis.call('LLEN', items) ~= size then return {'GONE'} end
local first, last, by, count = range_of(start, stop, step, size)
local low, high = first, last - 1
if by < 0 then low, high = first + (count - 1) * by, first end
if count == 0 or (s[4] == '0' and high - low < page) then
  local reply, bytes = {'ALL', s[2]}, 0
  local found = count > 0 and redis.call('LRANGE', items, low, high) or {}
  for i = 0, count - 1 do
    reply[#reply + 1] = found[first + i * by - low + 1]
    bytes = bytes + #reply[#reply]
  end
  if bytes < PAGE_BYTES then return reply end
end
if not begins(state, client, seq) then return {'AGAIN'} end
redis.call('COPY', items, mailbox, 'REPLACE')
redis.call('PEXPIRE', mailbox, READING_MS)
reads(state, readers_of(s[5]), client, seq)
return {'COPIED', s[2], size}
