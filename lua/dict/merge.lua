-- dict/merge
-- @version 1
-- Enter a batch: more values than fit in a page, which the client has laid down. From now on
-- they are there, all at once. To enter them takes the server long, so that is done page by
-- page (`dict/enter`) by everybody who wants something of the dict. Until it is done the
-- format is another one, so that no script does anything else, and the entries lie elsewhere,
-- so that nobody reads them without a script. Asked again then, it answers OK and how many
-- keys were new, as `dict/update` does.
-- KEYS[1] state     hash
-- KEYS[2] entries   hash: key -> element
-- KEYS[3] order     sorted set: key, by when it was new
-- KEYS[4] objects   hash: key -> the object it was, if the key does not say
-- KEYS[5] trash     list: what goes with the last reader
-- KEYS[6] blobs     set: elements that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request; the batch was laid down under it
-- ARGV[3] others    count of changes of keys that only the client can compare; or empty
-- ARGV[4] pages     of the batch
-- ARGV[5] rich      msgpack array of those of its elements that have keys of their own or
--                   refer to other objects; or empty
-- Reply (MERGING | MISSING | CHANGED) [freed] | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I19 a dict has as many keys in its order as entries, and its state says how many
-- I20 what a reader is answered was there together at one moment
--- @include now, store, dict
local keys, client, seq, others, pages, rich = KEYS, ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local laid, name = keys[2] .. ':' .. client .. ':' .. seq, client .. ':' .. seq
local c, answer = opened(keys, client, seq, others)
if not c then
  -- Another batch comes first: then the same request is made again.
  if answer[1] ~= 'VERSION' then redis.call('UNLINK', laid) end
  return answer
end
if redis.call('HLEN', laid) ~= tonumber(pages) then
  redis.call('UNLINK', laid)
  return done(c, {'MISSING'})
end
-- They are large elements to whoever keeps or deletes the dict.
local batch = c.state .. ':b:' .. name
redis.call('RENAME', laid, batch .. ':0')
redis.call('PEXPIRE', batch .. ':0', c.ttl)
if redis.call('EXISTS', c.entries) == 1 then redis.call('RENAME', c.entries, batch .. ':1') end
redis.call('SADD', c.blobs, '2:' .. name)
redis.call('PEXPIRE', c.blobs, c.ttl)
-- They are kept before they are entered: the dict may be deleted in between. Bounded by what
-- the request brings.
for _, element in ipairs(rich == '' and {} or cmsgpack.unpack(rich)) do keep(c, element) end
redis.call('HSET', c.state, 'fmt', 'dict/1 merging', 'merge', name .. ' 0 0')
return done(c, {'MERGING'})
