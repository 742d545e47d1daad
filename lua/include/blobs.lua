-- The keys of the large messages of an object, which are named after its state and carry
-- its hash tag: only the index knows them.
local function blob_keys(state, blobs)
  local found = {}
  -- Bounded by the large messages that lie in a queue.
  for _, member in ipairs(redis.call('SMEMBERS', blobs)) do
    local pieces, id = string.match(member, '^(%d+):(.+)$')
    for i = 0, pieces - 1 do found[#found + 1] = state .. ':b:' .. id .. ':' .. i end
  end
  return found
end
