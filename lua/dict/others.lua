-- dict/others
-- @version 1
-- The keys of which only the client knows what they equal.
-- KEYS[1] state     hash
-- KEYS[2] objects   hash: key -> the object it was, if the key does not say
-- Reply OTHERS others [key object ...] | GONE | VERSION fmt
local state, objects = KEYS[1], KEYS[2]
local s = redis.call('HMGET', state, 'fmt', 'others')
if s[1] ~= 'dict/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local reply, found = {'OTHERS', s[2]}, redis.call('HGETALL', objects)
-- Bounded by the keys that are no text, number or bytes.
for i = 1, #found, 2 do
  if string.byte(found[i]) == 111 then
    reply[#reply + 1] = found[i]
    reply[#reply + 1] = found[i + 1]
  end
end
return reply
