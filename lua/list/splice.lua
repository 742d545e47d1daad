-- list/splice
-- @version 1
-- Put elements in the place of a slice: `insert`, slice assignment, `del l[a:b:c]`, `clear`.
-- KEYS[1] state     hash
-- KEYS[2] items     list of elements
-- KEYS[3] trash     list: what goes with the last reader
-- KEYS[4] blobs     set: elements that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] version   of the list that the caller has seen; empty if any will do
-- ARGV[4] start     of the slice, as in Python; empty for None
-- ARGV[5] stop      the same
-- ARGV[6] step      the same
-- ARGV[7] elements  msgpack array; empty to delete the slice
-- Reply (OK | SIZE count | CHANGED) [freed] | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
--- @include now, store, list, range, splice
local keys, client, seq, version = KEYS, ARGV[1], ARGV[2], ARGV[3]
local start, stop, step, packed = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local c, answer = opened(keys, client, seq, version)
if not c then return answer end
local first, last, by, count = range_of(start, stop, step, c.size)
local new = packed == '' and {} or cmsgpack.unpack(packed)
-- As in Python, only a slice without a step may change its length, unless it goes altogether.
if by ~= 1 and #new ~= count and packed ~= '' then return done(c, {'SIZE', count}) end
arrive(c, new)
if by == 1 then
  last = math.max(first, last)
  if c.rich == '1' and last > first then
    -- Bounded by the slice.
    for _, old in ipairs(redis.call('LRANGE', c.items, first, last - 1)) do let_go(c, old) end
  end
  splice(c, first, last, new)
elseif count > 0 then
  -- From the lowest to the highest index touched, which is read and written as a whole.
  local low, high = math.min(first, first + (count - 1) * by), math.max(first, first + (count - 1) * by)
  local old, kept, gone = redis.call('LRANGE', c.items, low, high), {}, {}
  for i = 0, count - 1 do gone[first + i * by - low + 1] = new[i + 1] or true end
  for place, element in ipairs(old) do
    if gone[place] then let_go(c, element) end
    if gone[place] ~= true then kept[#kept + 1] = gone[place] or element end
  end
  splice(c, low, high + 1, kept)
end
return done(c, {'OK'})
