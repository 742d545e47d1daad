-- dict/get
-- @version 1
-- How many entries there are, and one of them.
-- KEYS[1] state     hash
-- KEYS[2] entries   hash: key -> element
-- ARGV[1] others    count of changes of keys that only the client can compare; or empty
-- ARGV[2] want      1 for the element, 0 to know whether there is one
-- ARGV[3] key       bytes; empty for none
-- Reply VALUE size [element] | MISSING size | CHANGED | GONE | VERSION fmt
local state, entries = KEYS[1], KEYS[2]
local others, want, key = ARGV[1], ARGV[2], ARGV[3]
local s = redis.call('HMGET', state, 'fmt', 'size', 'others')
if s[1] ~= 'dict/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
if redis.call('HLEN', entries) ~= tonumber(s[2]) then return {'GONE'} end
if others ~= '' and others ~= s[3] then return {'CHANGED'} end
if want == '1' then
  local element = redis.call('HGET', entries, key)
  return element and {'VALUE', s[2], element} or {'MISSING', s[2]}
end
return {redis.call('HEXISTS', entries, key) == 1 and 'VALUE' or 'MISSING', s[2]}
