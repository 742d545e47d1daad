-- pipe/find
-- @version 1
-- Who reads at an end and where, whether somebody else wants to, up to where it has used a
-- sender's messages, and what `queue/look` tells. The bell will be rung at the next change.
-- KEYS[1] peer      state of the end that writes
-- KEYS[2] state     hash
-- KEYS[3] items     list of elements
-- ARGV[1] sender    whose messages; empty for none
-- Reply VALUE at wanted number length last open | BROKEN | GONE | VERSION fmt
local peer, state, items, sender = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local s = redis.call('HMGET', state, 'fmt', 'at', 'wanted', 'c:' .. sender, 'last')
local open = redis.call('EXISTS', peer)
if s[1] ~= 'queue/1' then
  if s[1] then return {'VERSION', s[1]} end
  return {open == 1 and 'BROKEN' or 'GONE'}
end
redis.call('HSET', state, 'watch', 1)
return {'VALUE', s[2] or '', s[3] or '0', s[4] or '0', redis.call('LLEN', items), s[5], open}
