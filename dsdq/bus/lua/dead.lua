-- Keep what a worker could not answer, once, and count it for ever.
--
-- KEYS[1]  {dead}:letters  stream      the newest letters
-- KEYS[2]  {dead}:counts   hash        kind -> letters there ever were
-- KEYS[3]  {dead}:seen     sorted set  <worker>/<tenant>/<entry id> by the letter's time, as many as letters are kept
-- KEYS[4]  {dead}:bytes    string      bytes of the messages in the letters
-- ARGV     <worker>/<tenant>/<entry id>, kind, letters kept, bytes kept, milliseconds kept, message, field, value, …
--
-- Returns the letter's id, or false when this entry was put here before; nothing is changed then. The oldest go until
-- all three bounds hold.
if redis.call("ZSCORE", KEYS[3], ARGV[1]) then
  return false
end
local letters, bytes, age = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local id = redis.call("XADD", KEYS[1], "*", "m", ARGV[6], unpack(ARGV, 7))
local now = tonumber(string.match(id, "^%d+"))
redis.call("ZADD", KEYS[3], now, ARGV[1])
redis.call("ZREMRANGEBYRANK", KEYS[3], 0, -1 - letters)
redis.call("HINCRBY", KEYS[2], ARGV[2], 1)
local held, count = redis.call("INCRBY", KEYS[4], #ARGV[6]), redis.call("XLEN", KEYS[1])
while count > 1 do
  local oldest = redis.call("XRANGE", KEYS[1], "-", "+", "COUNT", 1)[1]
  if count <= letters and held <= bytes and tonumber(string.match(oldest[1], "^%d+")) >= now - age then
    break
  end
  redis.call("XDEL", KEYS[1], oldest[1])
  count = count - 1
  -- The message is the first field.
  held = redis.call("DECRBY", KEYS[4], #oldest[2][2])
end
redis.call("PEXPIRE", KEYS[1], age)
redis.call("PEXPIRE", KEYS[3], age)
redis.call("PEXPIRE", KEYS[4], age)
return id
