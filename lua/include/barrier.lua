-- How a generation of a barrier ends: each party that waits finds its outcome
-- in the state under its client, and a hint where it waits for one. `caller`
-- is a ticket that needs none: the script's own answer says it.
local function tell(state, places, caller, outcome)
  local fields = {}
  -- Bounded by those who wait; a call takes some thousand words at most.
  for i, place in ipairs(places) do
    local reply = outcome(i)
    fields[#fields + 1] = 'o:' .. client_of(place)
    fields[#fields + 1] = record(seq_of(place), reply)
    if ticket_of(place) ~= caller then post(state, place, reply) end
    if #fields == 1000 or i == #places then
      redis.call('HSET', state, unpack(fields))
      fields = {}
    end
  end
end
-- Let the oldest `parties` tickets through. Those that came while the action
-- ran belong to the next generation; if it is complete too, it goes through as
-- well, or its last ticket is told to run the action.
local function open(state, waiters, parties, has_action, caller)
  redis.call('HSET', state, 'phase', 'filling', 'actor', '')
  local function passed(i) return {'PASSED', tostring(i - 1)} end
  -- Bounded by the tickets: each round removes `parties` of them.
  while redis.call('LLEN', waiters) >= parties do
    tell(state, redis.call('LPOP', waiters, parties), caller, passed)
    local last = has_action and redis.call('LINDEX', waiters, parties - 1)
    if last then
      redis.call('HSET', state, 'phase', 'action', 'actor', ticket_of(last))
      tell(state, {last}, caller, function() return {'ACT', tostring(parties - 1)} end)
      return
    end
  end
end
local function smash(state, waiters, phase)
  redis.call('HSET', state, 'phase', phase, 'actor', '')
  tell(state, redis.call('LRANGE', waiters, 0, -1), nil, function() return {'BROKEN'} end)
  redis.call('DEL', waiters)
end
