-- mem/update
-- @version 1
-- Change one element without the lock, depending on what it is, unless somebody has the
-- lock: then the caller is to stand in line for it. Integers of any width are exact: their
-- bytes are added and compared, since a number in Lua has 53 bits only.
-- KEYS[1] guard     hash: state of the lock; of the region itself, if nobody is waited for
-- KEYS[2] state     hash
-- KEYS[3] items     string: the bytes
-- ARGV[1] client    process.slot
-- ARGV[2] seq       number of the request
-- ARGV[3] what      add, exchange, compare_exchange, max or min
-- ARGV[4] kind      of the element: int, uint or float
-- ARGV[5] order     < or >: which of its bytes comes first
-- ARGV[6] offset    of its first byte
-- ARGV[7] operand   bytes, as the element's
-- ARGV[8] expected  the same, for compare_exchange
-- Reply WAS bytes | BUSY | STALE | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I14 the version of a region grows whenever its bytes change
--- @include region
local guard, state, items = KEYS[1], KEYS[2], KEYS[3]
local client, seq, what, kind = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local order, offset, operand, expected = ARGV[5], tonumber(ARGV[6]), ARGV[7], ARGV[8]

local mine = 'r:' .. client
local s = redis.call('HMGET', state, 'fmt', 'size', 'version', mine)
local last = s[4]
if last and last >= seq then
  if string.sub(last, 1, 12) ~= seq then return {'STALE'} end
  -- The bytes may be any, so they are not split.
  if string.sub(last, 14, 16) == 'WAS' then return {'WAS', string.sub(last, 18)} end
  return {'BUSY'}
end
local wrong = flaw(s[1], s[2], items, {offset, operand})
if wrong then return wrong end
if guard ~= state then
  local lock = redis.call('HMGET', guard, 'fmt', 'value')
  if lock[1] ~= 'sem/1' then return lock[1] and {'VERSION', lock[1]} or {'GONE'} end
  if lock[2] == '0' then
    redis.call('HSET', state, mine, seq .. '\31BUSY')
    return {'BUSY'}
  end
end

local size = #operand
-- Bytes with the least one first, and back.
local function turned(bytes) return order == '<' and bytes or string.reverse(bytes) end
local function number(bytes)
  return (struct.unpack(order .. (size == 4 and 'f' or 'd'), bytes))
end
local function sum(a, b)
  if kind == 'float' then
    return struct.pack(order .. (size == 4 and 'f' or 'd'), number(a) + number(b))
  end
  local carry, out = 0, {}
  a, b = turned(a), turned(b)
  -- Bounded by the bytes of an element. The last carry is lost: that is the overflow.
  for i = 1, size do
    local digit = string.byte(a, i) + string.byte(b, i) + carry
    out[i], carry = string.char(digit % 256), digit >= 256 and 1 or 0
  end
  return turned(table.concat(out))
end
local function less(a, b)
  if kind == 'float' then return number(a) < number(b) end
  a, b = turned(a), turned(b)
  for i = size, 1, -1 do
    local x, y = string.byte(a, i), string.byte(b, i)
    -- The highest bit of a signed integer counts for less than nothing.
    if i == size and kind == 'int' then x, y = (x + 128) % 256, (y + 128) % 256 end
    if x ~= y then return x < y end
  end
  return false
end

local was = redis.call('GETRANGE', items, offset, offset + size - 1)
local now = operand
if what == 'add' then now = sum(was, operand)
elseif what == 'compare_exchange' then now = was == expected and operand or was
elseif what == 'max' then now = less(was, operand) and operand or was
elseif what == 'min' then now = less(operand, was) and operand or was
end
if now ~= was then
  write(state, items, {offset, now})
  redis.call('HSET', state, 'version', s[3] + 1)
end
redis.call('HSET', state, mine, seq .. '\31WAS\31' .. was)
return {'WAS', was}
