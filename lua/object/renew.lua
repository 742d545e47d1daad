-- object/renew
-- @version 1
-- A living process still refers to the object: keep it.
-- KEYS[1] state     hash
-- KEYS[2] refs      sorted set
-- KEYS[3] waiters   list or sorted set
-- KEYS[4] stream    of an Event
-- Reply OK | GONE
local ttl = redis.call('HGET', KEYS[1], 'ttl')
if not ttl then return {'GONE'} end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ttl) end
return {'OK'}
