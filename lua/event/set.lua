-- event/set
-- @version 1
-- Raise the flag and wake everyone who is waiting, at once: they block on the
-- stream, from the id they were told, and are not registered anywhere.
-- KEYS[1] state     hash
-- KEYS[2] stream    one entry, the newest set()
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- Reply OK | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I8 whoever was told UNSET id finds an entry after id once set() has run
--- @include object
local state, stream = KEYS[1], KEYS[2]
local client, seq = ARGV[1], ARGV[2]

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'flag', 'ttl', mine)
if s[1] ~= 'event/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local again = replayed(s[4], seq)
if again then return again end
if s[2] == '1' then
  -- Already up, so nobody is waiting.
  redis.call('HSET', state, mine, record(seq, {'OK'}))
else
  local id = redis.call('XADD', stream, 'MAXLEN', 1, '*', 'set', 1)
  redis.call('PEXPIRE', stream, s[3])
  redis.call('HSET', state, 'flag', 1, 'last', id, mine, record(seq, {'OK'}))
end
return {'OK'}
