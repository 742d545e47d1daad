-- process/place
-- @version 1
-- Hand a process to a function that is idle, or tell one to stop. The function's
-- list is named after it; it carries the program's hash tag, as `idle` does.
-- Placing one process twice is harmless: the second function finds it claimed.
-- KEYS[1] idle      sorted set: function -> until when (ms)
-- ARGV[1] order     process to run, or stop
-- Reply PLACED function | NONE
--- @include now
local idle, order = KEYS[1], ARGV[1]
-- Whoever is about to give up is passed over.
redis.call('ZREMRANGEBYSCORE', idle, '-inf', order == 'stop' and '-inf' or now())
local last = redis.call('ZPOPMAX', idle)
if #last == 0 then return {'NONE'} end
local list = idle .. ':' .. last[1]
redis.call('RPUSH', list, order)
redis.call('PEXPIRE', list, 60000)
return {'PLACED', last[1]}
