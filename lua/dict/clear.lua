-- dict/clear
-- @version 1
-- Delete all entries. Whoever reads page by page begins again: there is less to read.
-- KEYS[1] state     hash
-- KEYS[2] entries   hash: key -> element
-- KEYS[3] order     sorted set: key, by when it was new
-- KEYS[4] objects   hash: key -> the object it was, if the key does not say
-- KEYS[5] trash     list: what goes with the last reader
-- KEYS[6] blobs     set: elements that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- Reply OK size [freed] | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I19 a dict has as many keys in its order as entries, and its state says how many
--- @include now, store, dict
local keys, client, seq = KEYS, ARGV[1], ARGV[2]
local c, answer = opened(keys, client, seq, '')
if not c then return answer end
for reader in pairs(c.readers) do redis.call('DEL', c.state .. ':m:' .. reader) end
c.readers = {}
empty_trash(c)
if c.rich == '1' then
  -- Bounded by the entries, of which some are large or refer to objects.
  for _, element in ipairs(redis.call('HVALS', c.entries)) do let_go(c, element) end
end
-- In the background: the server waits for none of it.
for _, name in ipairs({c.entries, c.order, c.objects}) do redis.call('UNLINK', name) end
local size = tonumber(c.size)
c.size, c.others = 0, c.others + 1
return done(c, {'OK', size})
