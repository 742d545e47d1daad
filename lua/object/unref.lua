-- object/unref
-- @version 1
-- A process does not refer to an object any more. The last one deletes it. A main
-- program that is over takes the pins of its processes with it; where other pins
-- are all that is left, the object expires with the last of them.
-- KEYS[1] state     hash
-- KEYS[2] refs      sorted set: who refers to the object -> until when (ms), or +inf
-- KEYS[3] waiters   list or sorted set
-- KEYS[4] stream    of an Event
-- ARGV[1] process   that lets go
-- ARGV[2] ended     1 if the process is over: its mailboxes go, and later its answers
-- Reply OK | DELETED
--- @include now
local state, refs, waiters, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local process, ended = ARGV[1], ARGV[2]
redis.call('ZREM', refs, process)
redis.call('ZREMRANGEBYSCORE', refs, '-inf', now())
if ended == '1' then
  -- Bounded by the references; a pin is "pin", its program, ":" and a random part.
  for _, member in ipairs(redis.call('ZRANGE', refs, 0, -1)) do
    if string.match(member, '^pin([^:]*):') == process then redis.call('ZREM', refs, member) end
  end
end
local last = redis.call('ZCARD', refs) == 0
-- What the state remembers of a process outlives it: one that was only taken for
-- dead may come back and ask again. Its answers go an hour after its end, when no
-- copy of a request is on its way any more; that it lost a lock (x:) is never
-- forgotten. The mailboxes are named after the clients and carry the hash tag.
local HOUR = 3600000
if ended == '1' and redis.call('EXISTS', state) == 1 then
  redis.call('HSETNX', state, 'e:' .. process, now())
end
if last or ended == '1' then
  local fields = redis.call('HGETALL', state)
  local gone = {}
  -- Bounded by the processes that ever used the object.
  for i = 1, #fields, 2 do
    local over = string.match(fields[i], '^e:(.+)')
    if over and now() - fields[i + 1] > HOUR then
      gone[over] = true
      redis.call('HDEL', state, fields[i])
    end
  end
  for i = 1, #fields, 2 do
    local kind, client = string.match(fields[i], '^([rox]):(.+)')
    local owner = client and string.match(client, '^([^.]+)')
    if client and kind ~= 'x' and gone[owner] then redis.call('HDEL', state, fields[i]) end
    if client and (last or owner == process) then redis.call('DEL', state .. ':m:' .. client) end
  end
end
if not last then
  local until_when = tonumber(redis.call('ZRANGE', refs, -1, -1, 'WITHSCORES')[2])
  if until_when < math.huge then
    for _, key in ipairs(KEYS) do redis.call('PEXPIREAT', key, until_when) end
  end
  return {'OK'}
end
redis.call('DEL', state, refs, waiters, stream)
return {'DELETED'}
