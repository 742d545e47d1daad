-- barrier/look
-- @version 1
-- What n_waiting and broken show.
-- KEYS[1] state     hash
-- KEYS[2] waiters   sorted set: ticket -> order of arrival
-- Reply VALUE phase waiting | GONE | VERSION fmt
--- @include object
local s = redis.call('HMGET', KEYS[1], 'fmt', 'phase')
local bad = refuse(s[1], 'barrier/1')
if bad then return bad end
return {'VALUE', s[2], redis.call('ZCARD', KEYS[2])}
