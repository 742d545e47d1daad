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
-- Reply OK | GONE
--- @include blobs
local state, blobs = KEYS[1], KEYS[7]
local ttl = redis.call('HGET', state, 'ttl')
if not ttl then return {'GONE'} end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ttl) end
for _, key in ipairs(blob_keys(state, blobs)) do redis.call('PEXPIRE', key, ttl) end
return {'OK'}
