-- dict/add
-- @version 1
-- Add to a number; one that is not there counts as 0. Those that Lua has not exactly are
-- left to the client, which swaps.
-- KEYS[1] state     hash
-- KEYS[2] entries   hash: key -> element
-- KEYS[3] order     sorted set: key, by when it was new
-- KEYS[4] objects   hash: key -> the object it was, if the key does not say
-- KEYS[5] trash     list: what goes with the last reader
-- KEYS[6] blobs     set: elements that have keys of their own
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] others    count of changes of keys that only the client can compare; or empty
-- ARGV[4] key       bytes
-- ARGV[5] amount    element: an integer of less than 54 bits, or a float
-- ARGV[6] object    what the key was, pickled; empty if the key says it
-- Reply (WAS element | ADDED | VALUE element | CHANGED) [freed] | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I19 a dict has as many keys in its order as entries, and its state says how many
--- @include now, store, dict
local keys, client, seq, others = KEYS, ARGV[1], ARGV[2], ARGV[3]
local key, amount, object = ARGV[4], ARGV[5], ARGV[6]
local EXACT = 9007199254740992
local c, answer = opened(keys, client, seq, others)
if not c then return answer end
local found = redis.call('HGET', c.entries, key)
if not found then
  enter(c, key, amount, object)
  return done(c, {'ADDED'})
end
-- Its value, and whether it is a float.
local function number(element)
  local kind = string.sub(element, 1, 1)
  if kind == 'i' then return tonumber(string.sub(element, 2)), false end
  if kind == 'd' then return (struct.unpack('>d', string.sub(element, 2))), true end
end
local a, float = number(found)
local b, other = number(amount)
local sum = a and a + b
if not a or not (float or other) and (sum <= -EXACT or sum >= EXACT) then
  return done(c, {'VALUE', found})
end
local new = (float or other) and 'd' .. struct.pack('>d', sum) or 'i' .. string.format('%d', sum)
enter(c, key, new, '')
return done(c, {'WAS', found})
