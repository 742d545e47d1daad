-- mem/write
-- @version 1
-- Write ranges of bytes without the lock, unless somebody has it: then the caller is to
-- stand in line for it.
-- KEYS[1] guard     hash: state of the lock; of the region itself, if nobody is waited for
-- KEYS[2] state     hash
-- KEYS[3] items     string: the bytes
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] ranges    msgpack array: offset, bytes, ...; empty if all bytes were stored beside
-- Reply WROTE | BUSY | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I14 the version of a region grows whenever its bytes change
--- @include region
local guard, state, items = KEYS[1], KEYS[2], KEYS[3]
local client, seq, ranges = ARGV[1], ARGV[2], cmsgpack.unpack(ARGV[3])

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'size', 'version', mine)
local last = s[4]
if last and last >= seq then
  if #ranges == 0 then redis.call('UNLINK', stage_of(items, client, seq)) end
  return string.sub(last, 1, 12) == seq and string.match(last, '\31(%u+)') or 'STALE'
end
local wrong = flaw(s[1], s[2], items, ranges, client, seq)
if wrong then return wrong end
if guard ~= state then
  local lock = redis.call('HMGET', guard, 'fmt', 'value')
  if lock[1] ~= 'sem/1' then return lock[1] and {'VERSION', lock[1]} or {'GONE'} end
  if lock[2] == '0' then
    -- Written down, or a late copy would be carried out when the lock is free.
    redis.call('HSET', state, mine, seq .. '\31BUSY')
    if #ranges == 0 then redis.call('UNLINK', stage_of(items, client, seq)) end
    return 'BUSY'
  end
end
write(state, items, ranges, client, seq)
redis.call('HSET', state, 'version', s[3] + 1, mine, seq .. '\31WROTE')
return 'WROTE'
