-- process/finish
-- @version 1
-- Write how a process ended. The first to say so is believed: its supervisor, or
-- whoever found that its heartbeat had lapsed.
-- KEYS[1] record    hash
-- ARGV[1] code      exit code; a negative one is a signal, as in CPython
-- ARGV[2] why       in words, for people
-- ARGV[3] seen      which messages had reached its program (`queue/bury`); empty: unknown
-- Reply ENDED code | GONE
local record, code, why, seen = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local s = redis.call('HMGET', record, 'state', 'code')
if not s[1] then return {'GONE'} end
if s[1] == 'ended' then return {'ENDED', s[2]} end
redis.call('HSET', record, 'state', 'ended', 'code', code, 'why', why, 'seen', seen)
return {'ENDED', code}
