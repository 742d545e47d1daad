-- Elements are answered a page at a time: so many, or so many bytes.
local PAGE_BYTES = 1048576
-- The entries of some keys: key, place, element, object, ...; and how many there are. One
-- that is not there has no element.
local function entries_of(entries, order, objects, found)
  local flat, bytes, count = {}, 0, 0
  for i = 1, #found, 64 do
    local some = {unpack(found, i, math.min(#found, i + 63))}
    local elements = redis.call('HMGET', entries, unpack(some))
    for j, key in ipairs(some) do
      local kind, object = string.byte(key), ''
      if kind ~= 115 and kind ~= 105 and kind ~= 98 then
        object = redis.call('HGET', objects, key) or ''
      end
      local place = redis.call('ZSCORE', order, key) or '0'
      local element = elements[j] or ''
      for _, word in ipairs({key, place, element, object}) do flat[#flat + 1] = word end
      bytes, count = bytes + #key + #element + #object, count + 1
      if bytes > PAGE_BYTES then return flat, count end
    end
  end
  return flat, count
end
