-- pipe/read
-- @version 1
-- A process is about to receive at this end over sockets of its own: it leaves its address
-- for those who write. If another one reads here, that one is asked to make way.
-- KEYS[1] state     hash
-- KEYS[2] refs      sorted set: who refers to the end -> until when (ms), or +inf
-- KEYS[3] stream    bell of those who watch
-- ARGV[1] process   that is about to read
-- ARGV[2] address   by which it is reached
-- Reply OK orphan [sender number ...] | TAKEN | GONE | VERSION fmt
-- I3 repeating a request changes nothing
--- @include queue
local state, refs, stream, process, address = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]
local s = redis.call('HMGET', state, 'fmt', 'at', 'ttl', 'wanted', 'orphan')
if s[1] ~= 'queue/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local reader = string.match(s[2] or '', '^%S+')
local alive = reader and redis.call('ZSCORE', refs, reader)
if alive and reader ~= process then
  if s[4] ~= '1' then
    ring(state, stream, s[3])
    redis.call('HSET', state, 'wanted', 1)
  end
  return {'TAKEN'}
end
local at, orphan = process .. ' ' .. address, tonumber(s[5])
if s[2] ~= at then
  -- Whoever read last may have died with messages in hand.
  orphan = reader and reader ~= process and 1 or 0
  redis.call('HSET', state, 'at', at, 'wanted', 0, 'orphan', orphan)
  ring(state, stream, s[3])
end
local reply = {'OK', orphan}
local fields = redis.call('HGETALL', state)
-- Bounded by the processes that ever wrote to this end.
for i = 1, #fields, 2 do
  local sender = string.match(fields[i], '^c:(.+)')
  if sender then
    reply[#reply + 1] = sender
    reply[#reply + 1] = fields[i + 1]
  end
end
return reply
