-- sem/look
-- @version 1
-- What repr() and get_value() show.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets, first come first
-- Reply VALUE value waiting owner | GONE | VERSION fmt
local s = redis.call('HMGET', KEYS[1], 'fmt', 'value', 'owner')
if s[1] ~= 'sem/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
return {'VALUE', s[2], redis.call('LLEN', KEYS[2]), s[3]}
