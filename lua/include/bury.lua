-- What to do with what a dead process held.
-- A ticket that had been notified through a condition dies without having
-- acted on it: notify the next one there, so that no wake-up is lost (a
-- spurious one is allowed). The condition's waiting area is named after the
-- condition in the ticket and carries the lock's hash tag.
local function pass_on(state, waiters, ticket)
  local condition = condition_of(ticket)
  if not condition then return end
  local next = redis.call('LPOP', state .. ':c' .. condition .. ':w')
  if next then enqueue(state, waiters, next) end
end
-- Take a lock away from its owner, whose process is told so if it was only frozen,
-- whichever thread asks. The fence changes in any case: that is how a release tells.
local function depose(state, waiters, owner, fence, died)
  redis.call('HSET', state, 'x:' .. process_of(owner), fence)
  if not hand_over(state, waiters, true, died) then
    redis.call('HSET', state, 'value', 1, 'owner', '?' .. died, 'fence', fence + 1)
  end
end
