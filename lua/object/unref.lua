-- object/unref
-- @version 1
-- A process does not refer to an object any more. The last one deletes it. A main
-- program that is over takes the pins of its processes with it; where other pins
-- are all that is left, the object expires with the last of them.
-- KEYS[1] state     hash
-- KEYS[2] refs      sorted set: who refers to the object -> until when (ms), or +inf
-- KEYS[3] waiters   sorted set
-- KEYS[4] stream    of an Event
-- ARGV[1] process   that lets go
-- ARGV[2] ended     1 if the process is over: forget its requests and mailboxes too
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
if last or ended == '1' then
  -- One field per client that ever used the object; the mailboxes are named
  -- after them and carry the object's hash tag.
  for _, field in ipairs(redis.call('HKEYS', state)) do
    local client = string.match(field, '^[rox]:(.+)')
    if client and (last or string.match(client, '^([^.]+)') == process) then
      redis.call('HDEL', state, field)
      redis.call('DEL', state .. ':m:' .. client)
    end
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
