-- sem/look
-- @version 1
-- What repr() and get_value() show.
-- KEYS[1] state     hash
-- KEYS[2] waiters   sorted set: ticket -> place
-- Reply VALUE value waiting owner | GONE | VERSION fmt
--- @include object
local s = redis.call('HMGET', KEYS[1], 'fmt', 'value', 'owner')
local bad = refuse(s[1], 'sem/1')
if bad then return bad end
return {'VALUE', s[2], redis.call('ZCARD', KEYS[2]), s[3]}
