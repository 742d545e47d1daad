-- process/note
-- @version 1
-- Note what a process refers to, so that it can be let go of in its name.
-- KEYS[1] objects   set: "family ident"
-- ARGV[1] member    of it
-- ARGV[2] ttl       ms
-- Reply OK
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'OK'}
