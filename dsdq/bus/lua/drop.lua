-- Forget one dead letter.
--
-- KEYS[1]  {dead}:letters  stream
-- KEYS[2]  {dead}:bytes    string  bytes of the messages in the letters
-- ARGV     the letter's id
--
-- Returns whether it was there.
local found = redis.call("XRANGE", KEYS[1], ARGV[1], ARGV[1])[1]
if not found then
  return 0
end
redis.call("XDEL", KEYS[1], ARGV[1])
redis.call("DECRBY", KEYS[2], #found[2][2])
return 1
