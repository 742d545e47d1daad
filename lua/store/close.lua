-- store/close
-- @version 1
-- The client has read what it wanted. What was kept for it goes, unless others read.
-- KEYS[1] state     hash
-- KEYS[2] trash     list: what goes with the last reader
-- KEYS[3] blobs     set: elements that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- Reply OK [freed] | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
--- @include now, store
local state, trash, blobs, client, seq = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]
local s = redis.call('HMGET', state, 'fmt', 'ttl', 'open', 'rich', 'r:' .. client)
if s[1] ~= 'dict/1' and s[1] ~= 'list/1' then
  return s[1] and {'VERSION', s[1]} or {'GONE'}
end
local again = replayed(s[5], seq)
if again then return again end
local c = {
  state = state, trash = trash, blobs = blobs, client = client, seq = seq, ttl = s[2],
  rich = s[4], readers = readers_of(s[3]), freed = {},
}
forget(c, s[5])
close(c, client)
return finish(c, {'OK'})
