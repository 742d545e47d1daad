-- process/tell
-- @version 1
-- Append to the inbox of a process: a child's output, its start, its end. The
-- order is kept, and a message that is sent again is not there twice.
-- KEYS[1] inbox     stream
-- KEYS[2] seen      hash: sender -> number of its last message
-- KEYS[3] record    of the process whose inbox it is
-- ARGV[1] sender    client of the supervisor
-- ARGV[2] seq       number of the message, growing per sender
-- ARGV[3] kind      start, out, exit
-- ARGV[4] child     whom it is about
-- ARGV[5] what      pid, file descriptor or exit code
-- ARGV[6] data      bytes that were written
-- ARGV[7] ttl       ms
-- Reply OK length | GONE
local inbox, seen, record = KEYS[1], KEYS[2], KEYS[3]
local sender, seq, kind, child = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local what, data, ttl = ARGV[5], ARGV[6], ARGV[7]
local state = redis.call('HGET', record, 'state')
if not state or state == 'ended' then return {'GONE'} end
local last = redis.call('HGET', seen, sender)
if not last or tonumber(last) < tonumber(seq) then
  redis.call('XADD', inbox, '*', 'kind', kind, 'child', child, 'what', what, 'data', data)
  redis.call('HSET', seen, sender, seq)
  redis.call('PEXPIRE', inbox, ttl)
  redis.call('PEXPIRE', seen, ttl)
end
return {'OK', redis.call('XLEN', inbox)}
