-- cond/look
-- @version 1
-- How many are waiting, for repr().
-- KEYS[1] state     hash, state of the condition
-- KEYS[2] waiters   list, the condition's waiting area
-- Reply VALUE waiting | GONE | VERSION fmt
local fmt = redis.call('HGET', KEYS[1], 'fmt')
if fmt ~= 'cond/1' then return fmt and {'VERSION', fmt} or {'GONE'} end
return {'VALUE', redis.call('LLEN', KEYS[2])}
