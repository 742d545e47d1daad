-- A change of a dict. `keys` are state, entries, order, objects, trash, blobs.
-- What it is about, or nil and the answer.
local function opened(keys, client, seq, others)
  local s = redis.call('HMGET', keys[1], 'fmt', 'ttl', 'size', 'n', 'others', 'rich', 'open',
                       'r:' .. client)
  if s[1] ~= 'dict/1' then return nil, s[1] and {'VERSION', s[1]} or {'GONE'} end
  local again = replayed(s[8], seq)
  if again then return nil, again end
  if redis.call('HLEN', keys[2]) ~= tonumber(s[3]) then return nil, {'GONE'} end
  local c = {
    state = keys[1], entries = keys[2], order = keys[3], objects = keys[4], trash = keys[5],
    blobs = keys[6], client = client, seq = seq, ttl = s[2], size = s[3], n = s[4],
    others = s[5], rich = s[6], readers = readers_of(s[7]), freed = {},
  }
  if s[7] ~= '' and not next(c.readers) then empty_trash(c) end
  forget(c, s[8])
  if others ~= '' and others ~= s[5] then return nil, finish(c, {'CHANGED'}) end
  return c
end
-- Those who read page by page hear which entries changed meanwhile.
local function changed(c, key)
  for reader in pairs(c.readers) do
    redis.call('RPUSH', c.state .. ':m:' .. reader, key)
    redis.call('PEXPIRE', c.state .. ':m:' .. reader, READING_MS)
  end
end
-- Keys of which only the client knows what they equal are 'o' and a name.
local function is_other(key) return string.byte(key) == 111 end
-- Enter a value. True if the key is a new one; `object` is what it was, if `key` does not say.
local function enter(c, key, element, object)
  keep(c, element)
  if c.rich == '1' then
    local old = redis.call('HGET', c.entries, key)
    if old then let_go(c, old) end
  end
  local new = redis.call('HSET', c.entries, key, element) == 1
  changed(c, key)
  if not new then return false end
  c.n, c.size = c.n + 1, c.size + 1
  redis.call('ZADD', c.order, c.n, key)
  if c.size == 1 then
    redis.call('PEXPIRE', c.entries, c.ttl)
    redis.call('PEXPIRE', c.order, c.ttl)
  end
  if object ~= '' then
    redis.call('HSET', c.objects, key, object)
    redis.call('PEXPIRE', c.objects, c.ttl)
  end
  if is_other(key) then c.others = c.others + 1 end
  return true
end
local function strike(c, key)
  redis.call('HDEL', c.entries, key)
  redis.call('ZREM', c.order, key)
  redis.call('HDEL', c.objects, key)
  c.size = c.size - 1
  if is_other(key) then c.others = c.others + 1 end
  changed(c, key)
end
local function done(c, reply, large)
  redis.call('HSET', c.state, 'size', c.size, 'n', c.n, 'others', c.others)
  return finish(c, reply, large)
end
