-- object/ref
-- @version 1
-- Note that a process, or a handle in transit, refers to an object.
-- KEYS[1] state     hash
-- KEYS[2] refs      sorted set: who refers to the object -> until when (ms), or +inf
-- KEYS[3] waiters   list or sorted set
-- KEYS[4] stream    of an Event
-- ARGV[1] member    a process, or a pin's name
-- ARGV[2] ms        how long a pin holds; 0 for a process, which holds until it is dropped
-- Reply OK | GONE
--- @include now
local state, refs = KEYS[1], KEYS[2]
local member, ms = ARGV[1], tonumber(ARGV[2])
local ttl = redis.call('HGET', state, 'ttl')
if not ttl then return {'GONE'} end
redis.call('ZADD', refs, ms == 0 and '+inf' or now() + ms, member)
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ttl) end
return {'OK'}
