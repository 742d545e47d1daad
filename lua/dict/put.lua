-- dict/put
-- @version 1
-- Enter a plain value under a plain key, in as few words as can be: most changes of most
-- dicts are that. Where more is to be seen to it does nothing and says ELSE; then the same
-- request is made of `dict/set`.
-- KEYS[1] state     hash, see README
-- KEYS[2] entries   hash: key -> element
-- KEYS[3] order     sorted set: key, by when it was new
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request; 12 digits
-- ARGV[3] key       bytes that say all of the object
-- ARGV[4] element   a value that is nothing but bytes
-- Reply SET | ADDED | ELSE | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I19 a dict has as many keys in its order as entries, and its state says how many
local state, entries, order = KEYS[1], KEYS[2], KEYS[3]
local client, seq, key, element = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'rich', 'open', mine)
local last = s[4]
if last and last >= seq then
  return last == seq .. 'S' and 'SET' or last == seq .. 'A' and 'ADDED' or 'STALE'
end
if s[1] ~= 'dict/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
if s[3] ~= '' then return 'ELSE' end
if s[2] ~= '0' then
  -- What is overwritten, or was taken last, may have keys of its own or refer to others.
  local kind = string.byte(redis.call('HGET', entries, key) or '0')
  if kind == 114 or (kind > 48 and kind < 53) or string.sub(last or '', 13, 13) == 'L' then
    return 'ELSE'
  end
end
if redis.call('HSET', entries, key, element) == 0 then
  redis.call('HSET', state, mine, seq .. 'S')
  return 'SET'
end
local more = redis.call('HMGET', state, 'size', 'n', 'ttl')
local size, n = more[1] + 1, more[2] + 1
if redis.call('HLEN', entries) ~= size then
  redis.call('HDEL', entries, key)
  return {'GONE'}
end
redis.call('ZADD', order, n, key)
redis.call('HSET', state, 'size', size, 'n', n, mine, seq .. 'A')
if size == 1 then
  redis.call('PEXPIRE', entries, more[3])
  redis.call('PEXPIRE', order, more[3])
end
return 'ADDED'
