-- A reader has asked for something: it has another minute.
local function reads(state, readers, client, seq)
  readers[client] = seq .. ' ' .. string.format('%d', now() + READING_MS)
  redis.call('HSET', state, 'open', open_of(readers))
end
-- Begin to read. The request is known by its number for good: one that was read already, or
-- is late, changes nothing, lest it spoil what the client reads now. The client, if it has
-- lost the answer, begins again.
local function begins(state, client, seq)
  local last = redis.call('HGET', state, 't:' .. client)
  if last and last >= seq then return false end
  redis.call('HSET', state, 't:' .. client, seq)
  return true
end
