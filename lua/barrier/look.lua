-- barrier/look
-- @version 1
-- What n_waiting and broken show.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets, first come first
-- Reply VALUE phase waiting | GONE | VERSION fmt
local s = redis.call('HMGET', KEYS[1], 'fmt', 'phase')
if s[1] ~= 'barrier/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
return {'VALUE', s[2], redis.call('LLEN', KEYS[2])}
