-- pool/close
-- @version 1
-- No more tasks come: workers that are idle end now, the others when nothing is left to do.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets of idle workers, first come first
-- KEYS[3] tasks     list of tasks
-- KEYS[4] blobs     set: messages that have keys of their own
-- ARGV[1] drop      1 to throw away what lies there
-- Reply OK | GONE | VERSION fmt
--- @include object, ticket, queue, pool
local state, waiters, tasks, blobs, throw_away = KEYS[1], KEYS[2], KEYS[3], KEYS[4], ARGV[1]
local fmt = redis.call('HGET', state, 'fmt')
if fmt ~= 'pool/1' then return fmt and {'VERSION', fmt} or {'GONE'} end
redis.call('HSET', state, 'closed', '1')
if throw_away == '1' then
  -- Bounded by what lies there.
  for _, task in ipairs(redis.call('LRANGE', tasks, 0, -1)) do drop(state, blobs, task) end
  redis.call('DEL', tasks)
end
-- Bounded by the idle workers.
for _, ticket in ipairs(redis.call('LRANGE', waiters, 0, -1)) do
  redis.call('HSET', state, 't:' .. client_of(ticket), seq_of(ticket) .. 'C')
  post(state, ticket, {'CLOSED'})
end
redis.call('DEL', waiters)
return {'OK'}
