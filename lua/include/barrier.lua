-- How a generation of a barrier ends: each party that waits finds its outcome
-- in the state under its client, and a hint in its mailbox.
local function tell(state, ticket, reply)
  redis.call('HSET', state, 'o:' .. client_of(ticket), record(seq_of(ticket), reply))
  post(state, ticket, reply)
end
-- Let the oldest `parties` tickets through. Those that came while the action
-- ran belong to the next generation; if it is complete too, it goes through as
-- well, or its last ticket is told to run the action.
local function open(state, waiters, parties, has_action)
  redis.call('HSET', state, 'phase', 'filling', 'actor', '')
  local left = redis.call('ZCARD', waiters)
  -- Bounded by the tickets: each round removes `parties` of them.
  while left >= parties do
    local head = redis.call('ZPOPMIN', waiters, parties)
    for i = 1, #head, 2 do
      tell(state, head[i], {'PASSED', tostring((i - 1) / 2)})
    end
    left = left - parties
    if left >= parties and has_action then
      local last = redis.call('ZRANGE', waiters, parties - 1, parties - 1)[1]
      redis.call('HSET', state, 'phase', 'action', 'actor', last)
      tell(state, last, {'ACT', tostring(parties - 1)})
      return
    end
  end
end
local function smash(state, waiters, phase)
  redis.call('HSET', state, 'phase', phase, 'actor', '')
  -- Bounded by the tickets: each is told once.
  for _, ticket in ipairs(redis.call('ZRANGE', waiters, 0, -1)) do
    tell(state, ticket, {'BROKEN'})
  end
  redis.call('DEL', waiters)
end
