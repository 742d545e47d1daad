-- mem/fetch
-- @version 1
-- The version of a region, and a range of its bytes unless the caller has that version.
-- KEYS[1] state     hash
-- KEYS[2] items     string: the bytes
-- ARGV[1] first     byte
-- ARGV[2] last      byte; below the first one for none
-- ARGV[3] version   that the caller has; 0 for none
-- Reply SAME | DATA version bytes | GONE | VERSION fmt
local state, items = KEYS[1], KEYS[2]
local first, last, version = ARGV[1], ARGV[2], ARGV[3]
local s = redis.call('HMGET', state, 'fmt', 'version')
if s[1] ~= 'mem/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
if s[2] == version then return {'SAME'} end
return {'DATA', s[2], redis.call('GETRANGE', items, first, last)}
