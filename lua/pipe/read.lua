-- pipe/read
-- @version 1
-- A process is about to receive at this end over sockets of its own: it leaves its address
-- for those who write. If another one reads here, that one is asked to make way.
-- KEYS[1] state     hash
-- KEYS[2] refs      sorted set: who refers to the end -> until when (ms), or +inf
-- KEYS[3] stream    bell of those who watch
-- ARGV[1] process   that is about to read
-- ARGV[2] address   by which it is reached
-- ARGV[3] client    process.slot
-- ARGV[4] seq       number of the request
-- Reply OK orphan [sender number ...] | TAKEN | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
--- @include queue
local state, refs, stream = KEYS[1], KEYS[2], KEYS[3]
local process, address, client, seq = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'at', 'ttl', 'wanted', 'orphan', mine)
if s[1] ~= 'queue/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local at, last = process .. ' ' .. address, s[6]
-- Numbers have one width, so they compare as text, whatever stands behind them.
if last and last >= seq then
  if string.sub(last, 1, 12) ~= seq then return {'STALE'} end
  -- It was not to be had, or has been left since: a late copy does not come back to it.
  if s[2] ~= at then return {'TAKEN'} end
end
redis.call('HSET', state, mine, seq)
local reader = string.match(s[2] or '', '^%S+')
local alive = reader and redis.call('ZSCORE', refs, reader)
if alive and reader ~= process then
  if s[4] ~= '1' then
    ring(state, stream, s[3])
    redis.call('HSET', state, 'wanted', 1)
  end
  return {'TAKEN'}
end
local orphan = tonumber(s[5])
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
