-- The bytes of a region of shared memory.
-- A whole new content that is too large for a script lies in a key beside the old one,
-- which is named here, after the request: it has the object's hash tag.
local function stage_of(items, client, seq) return items .. ':' .. client .. ':' .. seq end
-- What keeps the ranges ("offset, bytes, ..."; none is a new content) from being
-- written, if anything does.
local function flaw(fmt, size, items, ranges, client, seq)
  if fmt ~= 'mem/1' then return fmt and {'VERSION', fmt} or {'GONE'} end
  if redis.call('STRLEN', items) ~= tonumber(size) then return {'GONE'} end
  if #ranges == 0 and redis.call('EXISTS', stage_of(items, client, seq)) == 0 then return {'GONE'} end
end
local function write(state, items, ranges, client, seq)
  -- Bounded by what one request brings.
  for i = 1, #ranges, 2 do redis.call('SETRANGE', items, ranges[i], ranges[i + 1]) end
  if #ranges == 0 then
    redis.call('RENAME', stage_of(items, client, seq), items)
    redis.call('PEXPIRE', items, redis.call('HGET', state, 'ttl'))
  end
end
