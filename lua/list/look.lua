-- list/look
-- @version 1
-- How many elements there are, and one of them.
-- KEYS[1] state     hash
-- KEYS[2] items     list of elements
-- ARGV[1] index     from the end if it is negative; empty for none
-- Reply VALUE size element | MISSING size | GONE | VERSION fmt
local state, items, index = KEYS[1], KEYS[2], ARGV[1]
local s = redis.call('HMGET', state, 'fmt', 'size')
if s[1] ~= 'list/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
if redis.call('LLEN', items) ~= tonumber(s[2]) then return {'GONE'} end
local element = index ~= '' and redis.call('LINDEX', items, index)
return element and {'VALUE', s[2], element} or {'MISSING', s[2]}
