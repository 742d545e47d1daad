-- queue/done
-- @version 1
-- One of the tasks that were put is done; the last one wakes those who join.
-- KEYS[1] state     hash
-- KEYS[2] stream    bell of those who watch
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- Reply OK | TOO_MANY | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
--- @include object, ticket, queue
local state, stream = KEYS[1], KEYS[2]
local client, seq = ARGV[1], ARGV[2]

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'todo', 'ttl', mine)
if s[1] ~= 'queue/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local again = replayed(s[4], seq)
if again then return again end
local reply = {'OK'}
if s[2] == '0' then
  reply = {'TOO_MANY'}
else
  redis.call('HINCRBY', state, 'todo', -1)
  if s[2] == '1' then
    redis.call('HINCRBY', state, 'rounds', 1)
    ring(state, stream, s[3])
  end
end
redis.call('HSET', state, mine, record(seq, reply))
return reply
