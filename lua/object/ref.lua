-- object/ref
-- @version 1
-- Note that a process, or a handle in transit, refers to an object. A handle that can
-- arrive once only (an end of a pipe) takes its pin away as it does.
-- KEYS[1] state     hash
-- KEYS[2] refs      sorted set: who refers to the object -> until when (ms), or +inf
-- KEYS[3] waiters   list or sorted set
-- KEYS[4] stream    of those who watch
-- KEYS[5] items     list
-- KEYS[6] parked    list
-- KEYS[7] blobs     set: messages that have keys of their own
-- ARGV[1] member    a process, or a pin's name
-- ARGV[2] ms        how long a pin holds; 0 for a process, which holds until it is dropped
-- ARGV[3] pin       that has arrived; empty if it stays
-- Reply OK | GONE
--- @include now, blobs
local state, refs, blobs = KEYS[1], KEYS[2], KEYS[7]
local member, ms, pin = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local ttl = redis.call('HGET', state, 'ttl')
if not ttl then return {'GONE'} end
redis.call('ZADD', refs, ms == 0 and '+inf' or now() + ms, member)
if pin ~= '' then redis.call('ZREM', refs, pin) end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ttl) end
for _, key in ipairs(blob_keys(state, blobs)) do redis.call('PEXPIRE', key, ttl) end
return {'OK'}
