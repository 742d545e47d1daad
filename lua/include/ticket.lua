-- A ticket is "process.slot:seq", with ":condition" behind it if it came
-- through a condition. Its parts, and the mailbox its client blocks on.
-- The mailbox's name is the one kind of key that is computed here and not
-- passed in: only the state knows who is next. It carries the object's hash
-- tag, so it is in the same slot.
local MAILBOX_MS = 60000
local function ticket_of(place) return string.match(place, '^~?(.+)') end
local function client_of(ticket) return string.match(ticket, '^~?([^:]+)') end
local function seq_of(ticket) return string.match(ticket, '^[^:]+:(%d+)') end
local function process_of(ticket) return string.match(ticket, '^[!~]?([^.]+)') end
local function condition_of(ticket) return string.match(ticket, '^[^:]+:%d+:(.+)') end
-- Where a ticket stands in a line, from 0; nil if it does not. A client that `asks` for its
-- answer, and did not at first, listens no longer: the "~" goes.
local function place_of(line, ticket, asks)
  local place = redis.call('LPOS', line, '~' .. ticket)
  if place and asks then redis.call('LSET', line, place, ticket) end
  return place or redis.call('LPOS', line, ticket)
end
-- Tell a ticket's client what the state already says. Only a hint: it may be
-- lost, and it is dropped if nobody fetches it for a minute. A client that listens
-- stands in line as "~" and its ticket: it needs no mailbox. A user who may not
-- publish goes without (pcall): half a script must not be all that is carried out.
local function post(state, ticket, reply)
  if string.byte(ticket) == 126 then
    local words = table.concat(reply, SEP)
    return redis.pcall('PUBLISH', 'lmp:' .. client_of(ticket), seq_of(ticket) .. SEP .. words)
  end
  local mailbox = state .. ':m:' .. client_of(ticket)
  redis.call('RPUSH', mailbox, seq_of(ticket) .. SEP .. table.concat(reply, SEP))
  redis.call('PEXPIRE', mailbox, MAILBOX_MS)
end
