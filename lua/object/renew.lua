-- object/renew
-- @version 1
-- A living process still refers to the object: keep it.
-- KEYS[1] state     hash
-- KEYS[2] refs      sorted set
-- KEYS[3] waiters   list or sorted set
-- KEYS[4] stream    of those who watch
-- KEYS[5] items     list
-- KEYS[6] parked    list
-- KEYS[7] blobs     set: messages that have keys of their own
-- Reply OK [pin object ...] | GONE
--- @include blobs, pins
local state, blobs = KEYS[1], KEYS[7]
local s = redis.call('HMGET', state, 'ttl', 'rich')
local ttl = s[1]
if not ttl then return {'GONE'} end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ttl) end
for _, key in ipairs(blob_keys(state, blobs)) do redis.call('PEXPIRE', key, ttl) end
-- What it holds is to be kept, too.
local reply = s[2] == '1' and pins_of(redis.call('HGETALL', state)) or {}
table.insert(reply, 1, 'OK')
return reply
