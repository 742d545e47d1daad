-- pool/keep
-- @version 1
-- A function was stored, in pieces, beside the pool: from now on it lives as long.
-- KEYS[1] state     hash
-- KEYS[2] blobs     set: messages that have keys of their own
-- ARGV[1] element   as of a large message: its name is the digest of its bytes
-- Reply OK | GONE | VERSION fmt
--- @include queue
local state, blobs, element = KEYS[1], KEYS[2], ARGV[1]
local s = redis.call('HMGET', state, 'fmt', 'ttl')
if s[1] ~= 'pool/1' then
  if s[1] then return {'VERSION', s[1]} end
  discard(state, blobs, element)
  return {'GONE'}
end
keep(state, blobs, element, s[2])
return {'OK'}
