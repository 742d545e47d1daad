-- pipe/ack
-- @version 1
-- The process that reads at an end has used messages: those who wrote them may forget
-- them. With `leave` it reads no longer, and puts back what it took from here unused.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list
-- KEYS[3] items     list of elements
-- KEYS[4] blobs     set: messages that have keys of their own
-- KEYS[5] stream    bell of those who watch
-- ARGV[1] at        "process address" of the reader, as it was left
-- ARGV[2] counts    msgpack array: sender, number of its last message that was used, ...
-- ARGV[3] leave     1 if it reads no longer
-- ARGV[4] back      msgpack array of elements
-- Reply OK | LOST | GONE | VERSION fmt
--- @include object, ticket, queue
local state, waiters, items, blobs, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local at, counts, leave, back = ARGV[1], cmsgpack.unpack(ARGV[2]), ARGV[3], cmsgpack.unpack(ARGV[4])
local s = redis.call('HMGET', state, 'fmt', 'at', 'ttl')
if s[1] ~= 'queue/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
-- It was taken for dead, or has left: this is a late copy.
if s[2] ~= at then return {'LOST'} end
local news = leave == '1'
-- Bounded by those who wrote to it. A late copy knows of less.
for i = 1, #counts, 2 do
  local sender, number = 'c:' .. counts[i], counts[i + 1]
  if number > tonumber(redis.call('HGET', state, sender) or 0) then
    redis.call('HSET', state, sender, number)
    news = true
  end
end
if leave == '1' then
  redis.call('HSET', state, 'at', '', 'wanted', 0)
  for _, element in ipairs(back) do keep(state, blobs, element, s[3]) end
  if back[1] then give_back(state, waiters, items, back, 1) end
end
if news then ring(state, stream, s[3]) end
return {'OK'}
