-- process/offer
-- @version 1
-- A function whose process has ended is ready to run another one.
-- KEYS[1] idle      sorted set: function -> until when (ms)
-- ARGV[1] function  that offers itself
-- ARGV[2] ms        how long it waits
-- Reply OK
--- @include now
local idle = KEYS[1]
local by, ms = ARGV[1], tonumber(ARGV[2])
redis.call('ZADD', idle, now() + ms, by)
redis.call('PEXPIRE', idle, ms + 60000)
return {'OK'}
