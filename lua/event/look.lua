-- event/look
-- @version 1
-- Is the flag up? If not, from which stream id to wait for it. Changes nothing,
-- so it needs no request number.
-- KEYS[1] state     hash
-- Reply SET | UNSET id | GONE | VERSION fmt
-- I8 whoever was told UNSET id finds an entry after id once set() has run
local s = redis.call('HMGET', KEYS[1], 'fmt', 'flag', 'last')
if s[1] ~= 'event/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
if s[2] == '1' then return {'SET'} end
return {'UNSET', s[3]}
