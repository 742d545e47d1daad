-- process/offer
-- @version 2
-- A function whose process has ended is ready to run another one. Once the
-- program is over none is taken any more: nobody would take it out again.
-- KEYS[1] idle      sorted set: function -> until when (ms)
-- KEYS[2] runtimes  set: those of which there is such a sorted set
-- KEYS[3] program   record of the program
-- ARGV[1] function  that offers itself
-- ARGV[2] runtime   it has
-- ARGV[3] ms        how long it waits
-- ARGV[4] ttl       ms
-- Reply OK | GONE
--- @include now
local idle, runtimes, program = KEYS[1], KEYS[2], KEYS[3]
local by, runtime, ms, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local state = redis.call('HGET', program, 'state')
if not state or state == 'ended' then return {'GONE'} end
redis.call('SADD', runtimes, runtime)
-- No sooner than the sorted set: what names it takes it out in the end.
redis.call('PEXPIRE', runtimes, math.max(ttl, ms + 60000))
redis.call('ZADD', idle, now() + ms, by)
redis.call('PEXPIRE', idle, ms + 60000)
return {'OK'}
