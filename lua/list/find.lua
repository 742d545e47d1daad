-- list/find
-- @version 1
-- Where an element is that equals a value, how many there are, or take the first one out.
-- That can be said of simple values only, of which a few elements are all that may equal
-- them; with others in the list the client has to look.
-- KEYS[1] state     hash
-- KEYS[2] items     list of elements
-- KEYS[3] trash     list: what goes with the last reader
-- KEYS[4] blobs     set: elements that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] what      index, count or remove
-- ARGV[4] start     of the slice that is searched, as in Python; empty for None
-- ARGV[5] stop      the same
-- ARGV[6] elements  msgpack array: all that equal the value
-- Reply (AT index | NUMBER count | REMOVED | MISSING | LOOK) [freed] | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
--- @include now, store, list, range, splice
local keys, client, seq, what = KEYS, ARGV[1], ARGV[2], ARGV[3]
local start, stop, elements = ARGV[4], ARGV[5], cmsgpack.unpack(ARGV[6])
local c, answer = opened(keys, client, seq, '')
if not c then return answer end
if c.mixed == '1' then return done(c, {'LOOK'}) end
local first, last = range_of(start, stop, '', c.size)
local count, found = 0, nil
-- Bounded by the elements that equal the value.
for _, element in ipairs(elements) do
  for _, place in ipairs(redis.call('LPOS', c.items, element, 'COUNT', what == 'count' and 0 or 1,
                                    'RANK', 1)) do
    count = count + 1
    if not found or place < found then found = place end
  end
end
if what == 'count' then return done(c, {'NUMBER', count}) end
if found and (found < first or found >= last) then
  -- The first one lies before the slice: those in it are looked for one by one.
  found = nil
  -- To the server, an empty slice that ends at 0 would be the whole list.
  local part = first < last and redis.call('LRANGE', c.items, first, last - 1) or {}
  for i, element in ipairs(part) do
    for _, other in ipairs(elements) do
      if element == other and not found then found = first + i - 1 end
    end
  end
end
if not found then return done(c, {'MISSING'}) end
if what == 'index' then return done(c, {'AT', found}) end
splice(c, found, found + 1, {})
return done(c, {'REMOVED'})
