-- queue/look
-- @version 1
-- How many messages lie there, how many tasks are not done, whether the other end of a
-- pipe is closed. Who means to wait for a change blocks on the stream, from `last` on.
-- KEYS[1] peer      state of the pipe's end that writes; of a queue the state itself
-- KEYS[2] state     hash
-- KEYS[3] items     list of elements
-- ARGV[1] watch     1 to have the bell rung at the next change
-- Reply VALUE length todo rounds last open | GONE | VERSION fmt
local peer, state, items, watch = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local s = redis.call('HMGET', state, 'fmt', 'todo', 'rounds', 'last')
if s[1] ~= 'queue/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
if watch == '1' then redis.call('HSET', state, 'watch', 1) end
return {'VALUE', redis.call('LLEN', items), s[2], s[3], s[4], redis.call('EXISTS', peer)}
