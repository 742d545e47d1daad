-- What every script on a shared object begins with.
-- SEP joins the words of a stored reply or of a hint; it occurs in none of them.
local SEP = '\31'
local function split(text)
  local words = {}
  for word in string.gmatch(text, '[^' .. SEP .. ']+') do words[#words + 1] = word end
  return words
end
-- The last request of a client on an object is kept with its answer, as
-- "seq SEP word SEP ...". Returns that answer if `seq` is the same request
-- again, STALE if a later one was already answered (a copy that overtook a
-- reconnection: nobody reads the reply), nil if the request is new.
local function replayed(last, seq)
  if not last then return nil end
  local words = split(last)
  local done = tonumber(table.remove(words, 1))
  if done == tonumber(seq) then return words end
  if done > tonumber(seq) then return {'STALE'} end
end
local function record(seq, reply)
  return seq .. SEP .. table.concat(reply, SEP)
end
