-- process/order
-- @version 1
-- Tell the supervisor of a process something: "signal N", or "parent" when the
-- parent has ended. A process that no function has claimed yet ends at once at a
-- signal, as if that had killed it.
-- KEYS[1] record    hash
-- KEYS[2] control   stream the supervisor reads
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] word      signal or parent
-- ARGV[4] signal    its number, or 0
-- ARGV[5] ttl       ms
-- Reply SENT | ENDED code | GONE
local record, control = KEYS[1], KEYS[2]
local client, seq, word, signal, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local mine = 'r:' .. client
local s = redis.call('HMGET', record, 'state', 'code', mine)
if not s[1] then return {'GONE'} end
if s[1] == 'ended' then return {'ENDED', s[2]} end
if s[1] == 'starting' and word == 'signal' then
  redis.call('HSET', record, 'state', 'ended', 'code', -signal, 'why', 'signalled before it ran')
  return {'ENDED', tostring(-signal)}
end
if s[3] and tonumber(s[3]) >= tonumber(seq) then return {'SENT'} end
redis.call('HSET', record, mine, seq)
redis.call('XADD', control, '*', word, signal)
redis.call('PEXPIRE', control, ttl)
return {'SENT'}
