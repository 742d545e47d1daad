-- process/withdraw
-- @version 1
-- A function has waited long enough: it stops, unless it was given something to
-- do meanwhile.
-- KEYS[1] idle      sorted set: function -> until when (ms)
-- KEYS[2] list      orders for this function
-- ARGV[1] function  that withdraws
-- Reply PLACED order | WITHDRAWN
local idle, list, by = KEYS[1], KEYS[2], ARGV[1]
redis.call('ZREM', idle, by)
local order = redis.call('LPOP', list)
if order then return {'PLACED', order} end
return {'WITHDRAWN'}
