-- A slice's first and last index and step, and how many elements it has, of `size` ones:
-- what Python's `slice.indices` says. Empty words are None.
local function range_of(start, stop, step, size)
  step = step == '' and 1 or tonumber(step)
  local low, high = 0, size
  if step < 0 then low, high = -1, size - 1 end
  local function bound(word, otherwise)
    if word == '' then return otherwise end
    local place = tonumber(word)
    if place < 0 then place = place + size end
    return math.max(low, math.min(high, place))
  end
  local first = bound(start, step < 0 and high or low)
  local last = bound(stop, step < 0 and low or high)
  local count = step < 0 and math.ceil((first - last) / -step) or math.ceil((last - first) / step)
  return first, last, step, math.max(0, count)
end
