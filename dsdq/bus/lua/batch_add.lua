-- Begin a batch: its input is to be read.
--
-- KEYS[1]  {b.<tenant>}:batches     sorted set  batch -> when it was made, in Redis milliseconds
-- KEYS[2]  {b.<tenant>}:active      sorted set  the same of those that have not ended
-- KEYS[3]  {b.<tenant>}:batch:<id>  hash
-- KEYS[4]  {b.<tenant>}:file:<id>   hash        the input; has `meta` if it is whole
-- ARGV     batch, batches that may be active, window_ms, field, value, …
--
-- Returns "OK" (also if it was begun before: the answer was lost), "FULL" or "NOFILE"; nothing is changed then.
if redis.call("EXISTS", KEYS[3]) == 1 then
  return "OK"
end
if redis.call("ZCARD", KEYS[2]) >= tonumber(ARGV[2]) then
  return "FULL"
end
if redis.call("HEXISTS", KEYS[4], "meta") == 0 then
  return "NOFILE"
end
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local deadline = now + tonumber(ARGV[3])
redis.call("HSET", KEYS[3], "status", "validating", "created_at", time[1],
  "deadline_ms", string.format("%d", deadline), "expires_at", math.floor(deadline / 1000),
  "total", 0, "completed", 0, "failed", 0, "prepared", 0, unpack(ARGV, 4))
redis.call("ZADD", KEYS[1], now, ARGV[1])
redis.call("ZADD", KEYS[2], now, ARGV[1])
return "OK"
