-- cond/look
-- @version 1
-- How many are waiting, for repr().
-- KEYS[1] state     hash, state of the condition
-- KEYS[2] waiters   sorted set, the condition's waiting area
-- Reply VALUE waiting | GONE | VERSION fmt
--- @include object
local bad = refuse(redis.call('HGET', KEYS[1], 'fmt'), 'cond/1')
if bad then return bad end
return {'VALUE', redis.call('ZCARD', KEYS[2])}
