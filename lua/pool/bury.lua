-- pool/bury
-- @version 1
-- A process has ended, or is taken for dead. What it had in hand and did not begin comes
-- first again; a task that it had begun runs again, or is lost if it has cost too many workers.
-- The process is not a worker any more, even if it was only frozen. The program's end is
-- the pool's.
-- KEYS[1] state     hash
-- KEYS[2] waiters   list of tickets of idle workers, first come first
-- KEYS[3] tasks     list of tasks
-- KEYS[4] results   list of results and news
-- KEYS[5] blobs     set: messages that have keys of their own
-- ARGV[1] process   that ended
-- ARGV[2] died      how; empty for a normal exit
-- ARGV[3] seen      msgpack map: slot -> {number, count}: its last step whose tasks were begun,
--                   and how many of them; empty if that is not known
-- Reply BURIED | GONE | VERSION fmt
-- I3 repeating a request changes nothing
-- I16 tasks lie there only while no worker is idle
-- I17 a task lies there, is in one hand, or has its result: one of them
--- @include object, ticket, queue, pool
local state, waiters, tasks, results, blobs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local process, died, seen = ARGV[1], ARGV[2], ARGV[3]

local s = redis.call('HMGET', state, 'fmt', 'ttl', 'retries', 'owner', 'closed')
if s[1] ~= 'pool/1' then return s[1] and {'VERSION', s[1]} or {'GONE'} end
local ttl, retries = s[2], tonumber(s[3])
seen = seen ~= '' and cmsgpack.unpack(seen) or nil
if died == '' then died = 'which ended' end

-- Bounded by those who wait: each is looked at once.
for _, ticket in ipairs(redis.call('LRANGE', waiters, 0, -1)) do
  if process_of(ticket) == process or process == s[4] then
    redis.call('LREM', waiters, 1, ticket)
    if process_of(ticket) ~= process then
      redis.call('HSET', state, 't:' .. client_of(ticket), seq_of(ticket) .. 'C')
      post(state, ticket, {'CLOSED'})
    end
  end
end
if process == s[4] then redis.call('HSET', state, 'closed', '1') end
-- How many of a hand's tasks were begun. If nobody knows, all may have been.
local function begun_of(client, seq, count)
  if not seen then return count end
  local known = seen[string.match(client, '%.(.+)$')]
  return known and known[1] == seq and known[2] or 0
end
-- It asks no more: what is read of it now was on its way, or comes from one that was only
-- frozen. A number that comes after all of its own says so.
local over = '999999999999D'
local lost = {}
-- Bounded by the fields of the state.
for _, field in ipairs(redis.call('HKEYS', state)) do
  local client = string.match(field, '^t:(.+)')
  if client and process_of(client) == process then
    local record = redis.call('HGET', state, field)
    local letter, hand = answered(record, string.sub(record, 1, 12))
    redis.call('HSET', state, field, over)
    if letter == 'H' then
      hand = cmsgpack.unpack(hand)
      local begun = begun_of(client, string.sub(record, 1, 12), #hand - 1)
      for i = #hand, hand[1] + 2, -1 do
        local task = hand[i]
        if i - 1 <= begun then
          local deaths = string.byte(task) - 47
          if deaths > retries then
            drop(state, blobs, task)
            table.insert(lost, 1, 'L' .. string.match(task, '^.([^:]*:)') .. '0' .. died)
            task = nil
          else
            task = string.char(deaths + 48) .. string.sub(task, 2)
          end
        end
        if task then redis.call('LPUSH', tasks, task) end
      end
      redis.call('PEXPIRE', tasks, ttl)
    end
  end
end
redis.call('HSET', state, 't:' .. process, over)
tell(state, results, lost, ttl)
deal(state, waiters, tasks)
return {'BURIED'}
