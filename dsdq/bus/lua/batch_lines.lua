-- Add the next lines of a batch that is being prepared. Lines up to `prepared` were added before and change nothing.
--
-- KEYS[1]  {b.<tenant>}:batch:<id>         hash
-- KEYS[2]  {b.<tenant>}:batch:<id>:todo    sorted set  line by its number
-- KEYS[3]  {b.<tenant>}:batch:<id>:lines   hash        line -> what is to be done
-- KEYS[4]  {b.<tenant>}:batch:<id>:errors  hash        line -> entry of the error file
-- ARGV     line, "good" | "bad", what is to be done or the entry, …
--
-- Returns 1, or 0 when the batch is not being prepared any more.
if redis.call("HGET", KEYS[1], "status") ~= "validating" then
  return 0
end
local prepared = tonumber(redis.call("HGET", KEYS[1], "prepared"))
for i = 1, #ARGV, 3 do
  local line = tonumber(ARGV[i])
  if line > prepared then
    if ARGV[i + 1] == "good" then
      redis.call("HSET", KEYS[3], ARGV[i], ARGV[i + 2])
      redis.call("ZADD", KEYS[2], line, ARGV[i])
    else
      redis.call("HSET", KEYS[4], ARGV[i], ARGV[i + 2])
      redis.call("HINCRBY", KEYS[1], "failed", 1)
    end
    redis.call("HINCRBY", KEYS[1], "total", 1)
    redis.call("HSET", KEYS[1], "prepared", ARGV[i])
  end
end
return 1
