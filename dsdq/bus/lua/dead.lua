-- Keep what a worker could not answer, once, and count it for ever.
--
-- KEYS[1]  {dead}:letters  stream      the newest letters
-- KEYS[2]  {dead}:counts   hash        kind -> letters there ever were
-- KEYS[3]  {dead}:seen     sorted set  <worker>/<tenant>/<entry id> by the letter's time, as many as letters are kept
-- ARGV     <worker>/<tenant>/<entry id>, kind, letters kept, field, value, field, value …
--
-- Returns the letter's id, or false when this entry was put here before; nothing is changed then.
if redis.call("ZSCORE", KEYS[3], ARGV[1]) then
  return false
end
local id = redis.call("XADD", KEYS[1], "MAXLEN", ARGV[3], "*", unpack(ARGV, 4))
redis.call("ZADD", KEYS[3], string.match(id, "^%d+"), ARGV[1])
redis.call("ZREMRANGEBYRANK", KEYS[3], 0, -1 - tonumber(ARGV[3]))
redis.call("HINCRBY", KEYS[2], ARGV[2], 1)
return id
