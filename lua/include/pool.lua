-- Tasks and results of a pool. A task is a digit (how many workers died with it), its name,
-- ':' and a message as in a queue. A result is a letter, the task's name, ':' and a message:
-- 'R' what the task gave, 'L' it is lost; 'Y' and 'F' are news of a worker.
local function large_of(element)
  local at = string.find(element, ':', 1, true)
  if string.byte(element, at + 1) ~= 48 then return string.sub(element, at + 1) end
end
local function drop(state, blobs, element)
  local large = large_of(element)
  if large then discard(state, blobs, large) end
end
-- What a worker has in hand: how many of its tasks have a result, and the tasks.
local function hold(state, client, seq, hand)
  redis.call('HSET', state, 't:' .. client, seq .. 'H' .. cmsgpack.pack(hand))
end
-- For the program, which is woken if it waits.
local function tell(state, results, elements, ttl)
  for i = 1, #elements, 1000 do
    redis.call('RPUSH', results, unpack(elements, i, math.min(#elements, i + 999)))
  end
  if #elements == 0 then return end
  redis.call('PEXPIRE', results, ttl)
  local taker = redis.call('HGET', state, 'taker')
  if taker ~= '' then
    redis.call('HSET', state, 'taker', '')
    post(state, taker, {'READY'})
  end
end
-- Workers that are idle get a task each, while there are any.
local function deal(state, waiters, tasks)
  -- Bounded by the idle workers.
  while redis.call('EXISTS', waiters, tasks) == 2 do
    local ticket, task = redis.call('LPOP', waiters), redis.call('LPOP', tasks)
    hold(state, client_of(ticket), seq_of(ticket), {0, task})
    post(state, ticket, {'TASKS', task})
  end
end
-- The first `count` tasks of a hand stay there; the others come first again.
local function put_back(state, tasks, hand, count, ttl)
  for i = #hand, count + 2, -1 do redis.call('LPUSH', tasks, table.remove(hand)) end
  redis.call('PEXPIRE', tasks, ttl)
end
-- Results of the tasks after the first `base` of a hand: accepted while they are in it.
local function accept(state, results, blobs, hand, base, elements, ttl)
  local fine = {}
  for i, element in ipairs(elements) do
    local place = base + i
    if hand and place > hand[1] and hand[place + 1] then
      local large = large_of(element)
      if large then keep(state, blobs, large, ttl) end
      drop(state, blobs, hand[place + 1])
      hand[1] = place
      fine[#fine + 1] = element
    elseif not hand then
      -- Unless it was accepted before: this may be a late copy.
      local pieces, name = blob_of(large_of(element) or '')
      if pieces and redis.call('SISMEMBER', blobs, pieces .. ':' .. name) == 0 then
        drop(state, blobs, element)
      end
    end
  end
  tell(state, results, fine, ttl)
end
