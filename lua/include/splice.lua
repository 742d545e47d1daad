local FAR = 512
-- The elements from `first` to before `last` go, `new` ones come in their place. Bounded by
-- the distance to the nearer end, which is moved; a single one far from both is put or taken
-- by the server itself, at a mark that no element looks like.
local function splice(c, first, last, new)
  local items, size = c.items, c.size
  if math.min(first, size - last) > FAR and last - first + #new == 1 then
    local old = redis.call('LINDEX', items, first)
    redis.call('LSET', items, first, '\0')
    if #new == 1 then
      redis.call('LINSERT', items, 'BEFORE', '\0', new[1])
      redis.call('LSET', items, first + 1, old)
    else
      redis.call('LREM', items, first * 2 < size and 1 or -1, '\0')
    end
  elseif size - last <= first then
    local moved = redis.call('LRANGE', items, last, -1)
    if first == 0 then redis.call('DEL', items) else redis.call('LTRIM', items, 0, first - 1) end
    push(c, new)
    push(c, moved)
  else
    local moved = first > 0 and redis.call('LRANGE', items, 0, first - 1) or {}
    redis.call('LTRIM', items, last, -1)
    for _, elements in ipairs({new, moved}) do
      local turned = {}
      for i = #elements, 1, -1 do turned[#turned + 1] = elements[i] end
      push(c, turned, true)
    end
  end
  c.version = c.version + 1
end
