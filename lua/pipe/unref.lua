-- pipe/unref
-- @version 1
-- A process does not refer to one end of a pipe any more. The last one closes it: who
-- reads at the other end is told of the end of the file, who writes to it that it is
-- broken. That the state is gone is how others know.
-- KEYS[1] state     hash
-- KEYS[2] refs      sorted set: who refers to the end -> until when (ms), or +inf
-- KEYS[3] waiters   list
-- KEYS[4] stream    of those who watch
-- KEYS[5] items     list
-- KEYS[6] parked    list of tickets of puts
-- KEYS[7] blobs     set: messages that have keys of their own
-- KEYS[8] peer      state of the other end
-- KEYS[9] readers   list of tickets of gets at the other end
-- KEYS[10] bell     stream of those who watch the other end
-- ARGV[1] process   that lets go
-- ARGV[2] ended     1 if the process is over: its mailboxes go, and later its answers
-- Reply OK | DELETED
--- @include object, ticket, now, queue, blobs, pins, unref
local own = {KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]}
local state, stream, parked, peer, readers, bell = KEYS[1], KEYS[4], KEYS[6], KEYS[8], KEYS[9], KEYS[10]
local process, ended = ARGV[1], ARGV[2]
local writers = redis.call('LRANGE', parked, 0, -1)
local fields = redis.call('HGETALL', state)
if not unref(own, process, ended) then
  -- Whoever wants to read in its place need not wait (`pipe/read`).
  if string.match(redis.call('HGET', state, 'at') or '', '^%S+') == process then
    ring(state, stream, redis.call('HGET', state, 'ttl'))
  end
  return {'OK'}
end
-- Bounded by those who wait. The hints of writers are posted at the end that is gone:
-- that is where they wait; they ask, and find it gone.
for _, ticket in ipairs(writers) do post(state, ticket, {'ASK'}) end
for _, ticket in ipairs(redis.call('LRANGE', readers, 0, -1)) do post(peer, ticket, {'ASK'}) end
if redis.call('HGET', peer, 'eof') == '' then
  local id = redis.call('XADD', bell, 'MAXLEN', 1, '*', 'bell', 1)
  redis.call('PEXPIRE', bell, redis.call('HGET', peer, 'ttl'))
  redis.call('HSET', peer, 'eof', 1, 'last', id, 'watch', 0)
  -- Who asks again whether its message was put is to hear that it was (`queue/put`).
  -- Bounded by the clients that wrote.
  for i = 1, #fields, 2 do
    local client, put = string.match(fields[i], '^s:(.+)'), string.match(fields[i + 1], '^%d+P')
    if client and put then redis.call('HSET', peer, 'l:' .. client, put) end
  end
end
return {'DELETED'}
