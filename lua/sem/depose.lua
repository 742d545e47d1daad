-- sem/depose
-- @version 1
-- A waiter found the owner's process dead: give the lock to the next in line,
-- unless it changed hands since (compare-and-set on owner and fence). The old
-- owner is remembered, so that it is told LOST if it was only frozen.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets, first come first
-- ARGV[1] owner     ticket that was seen
-- ARGV[2] fence     that was seen with it
-- ARGV[3] died      what to tell the next owner
-- Reply DEPOSED | CHANGED | KEPT | GONE | VERSION fmt
-- I2 an exclusive lock has an owner if and only if value = 0
--- @include object, ticket, sem, bury
local state, waiters = KEYS[1], KEYS[2]
local owner, fence, died = ARGV[1], ARGV[2], ARGV[3]

local s = redis.call('HMGET', state, 'fmt', 'owner', 'fence', 'policy')
if s[1] ~= 'sem/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
if s[2] ~= owner or s[3] ~= fence then return {'CHANGED'} end
if owner == '' or string.sub(owner, 1, 1) == '?' then return {'CHANGED'} end
if s[4] == 'keep' then return {'KEPT'} end
pass_on(state, waiters, owner)
depose(state, waiters, owner, fence, died)
return {'DEPOSED'}
