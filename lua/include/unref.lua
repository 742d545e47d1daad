-- A process does not refer to an object any more. True if it was the last one: then
-- everything the object has goes, with its mailboxes and the messages that have keys of
-- their own; all are named after the state and carry its hash tag. Besides, the pins by
-- which it held others: pin, object, ...
local HOUR = 3600000
local function unref(keys, process, ended)
  local state, refs, blobs = keys[1], keys[2], keys[7]
  redis.call('ZREM', refs, process)
  redis.call('ZREMRANGEBYSCORE', refs, '-inf', now())
  if ended == '1' then
    -- Bounded by the references; a pin is "pin", its program, ":" and a random part.
    for _, member in ipairs(redis.call('ZRANGE', refs, 0, -1)) do
      if string.match(member, '^pin([^:]*):') == process then redis.call('ZREM', refs, member) end
    end
  end
  local last, pins = redis.call('ZCARD', refs) == 0, {}
  -- What the state remembers of a process outlives it: one that was only taken for
  -- dead may come back and ask again. Its answers go an hour after its end, when no
  -- copy of a request is on its way any more; that it lost a lock (x:) is never
  -- forgotten.
  if ended == '1' and redis.call('EXISTS', state) == 1 then
    redis.call('HSETNX', state, 'e:' .. process, now())
  end
  if last or ended == '1' then
    local fields = redis.call('HGETALL', state)
    local gone = {}
    if last then pins = pins_of(fields) end
    for i = 1, last and #fields or 0, 2 do
      if fields[i] == 'open' then
        -- Bounded by those who read it page by page.
        for client in string.gmatch(fields[i + 1], '(%S+) %d+ %d+') do
          redis.call('DEL', state .. ':m:' .. client)
        end
      end
    end
    -- Bounded by the processes that ever used the object.
    for i = 1, #fields, 2 do
      local over = string.match(fields[i], '^e:(.+)')
      if over and now() - fields[i + 1] > HOUR then
        gone[over] = true
        redis.call('HDEL', state, fields[i])
      end
    end
    for i = 1, #fields, 2 do
      local kind, client = string.match(fields[i], '^([roxst]):(.+)')
      local owner = client and string.match(client, '^([^.]+)')
      if client and kind ~= 'x' and gone[owner] then redis.call('HDEL', state, fields[i]) end
      if client and (last or owner == process) then redis.call('DEL', state .. ':m:' .. client) end
    end
  end
  if last then
    for _, key in ipairs(blob_keys(state, blobs)) do redis.call('UNLINK', key) end
    for _, key in ipairs(keys) do redis.call('UNLINK', key) end
  else
    local until_when = tonumber(redis.call('ZRANGE', refs, -1, -1, 'WITHSCORES')[2])
    if until_when < math.huge then
      for _, key in ipairs(blob_keys(state, blobs)) do redis.call('PEXPIREAT', key, until_when) end
      for _, key in ipairs(keys) do redis.call('PEXPIREAT', key, until_when) end
    end
  end
  return last, pins
end
