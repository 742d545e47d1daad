-- Entries are answered a page at a time: so many, or so many bytes.
local ENTRY_BYTES = 1024
-- The entries of some keys: key, place, element, object, ...; and how many there are. One
-- that is not there has no element.
local function entries_of(entries, order, objects, found, page)
  local flat, bytes, count = {}, 0, 0
  local some_say_less = redis.call('EXISTS', objects) == 1
  for i = 1, #found, 64 do
    local some = {unpack(found, i, math.min(#found, i + 63))}
    local elements = redis.call('HMGET', entries, unpack(some))
    local pickled = some_say_less and redis.call('HMGET', objects, unpack(some)) or {}
    for j, key in ipairs(some) do
      local place = redis.call('ZSCORE', order, key) or '0'
      local element, object = elements[j] or '', pickled[j] or ''
      for _, word in ipairs({key, place, element, object}) do flat[#flat + 1] = word end
      bytes, count = bytes + #key + #element + #object, count + 1
      if bytes > page * ENTRY_BYTES then return flat, count end
    end
  end
  return flat, count
end
