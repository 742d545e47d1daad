-- pipe/ack
-- @version 1
-- The process that reads at an end has used messages: those who wrote them may forget
-- them. With `leave` it reads no longer, and puts back what it took from here unused.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list
-- KEYS[3] items     list of elements
-- KEYS[4] blobs     set: messages that have keys of their own
-- KEYS[5] stream    bell of those who watch
-- ARGV[1] process   that reads
-- ARGV[2] counts    msgpack array: sender, number of its last message that was used, ...
-- ARGV[3] leave     1 if it reads no longer
-- ARGV[4] back      msgpack array of elements
-- Reply OK | LOST | GONE | VERSION fmt
--- @include object, ticket, queue
local state, waiters, items, blobs, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local process, counts, leave, back = ARGV[1], cmsgpack.unpack(ARGV[2]), ARGV[3], cmsgpack.unpack(ARGV[4])
local s = redis.call('HMGET', state, 'fmt', 'at', 'ttl')
if s[1] ~= 'queue/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
-- It was taken for dead, or has left: this is a late copy.
if string.match(s[2] or '', '^%S+') ~= process then return {'LOST'} end
-- Bounded by those who wrote to it.
for i = 1, #counts, 2 do redis.call('HSET', state, 'c:' .. counts[i], counts[i + 1]) end
if leave == '1' then
  redis.call('HSET', state, 'at', '', 'wanted', 0)
  for _, element in ipairs(back) do keep(state, blobs, element, s[3]) end
  if back[1] then give_back(state, waiters, items, back, 1) end
end
ring(state, stream, s[3])
return {'OK'}
