-- Write what became of a line, once: only the first result counts, whoever brings it. The last one freezes the batch.
--
-- KEYS[1]  {b.<tenant>}:batch:<id>          hash
-- KEYS[2]  {b.<tenant>}:batch:<id>:todo     sorted set  line by its number
-- KEYS[3]  {b.<tenant>}:batch:<id>:lines    hash        line -> what is to be done; gone once it is done
-- KEYS[4]  {b.<tenant>}:batch:<id>:results  hash        line -> entry of the output file
-- KEYS[5]  {b.<tenant>}:batch:<id>:errors   hash        line -> entry of the error file
-- KEYS[6]  {b.<tenant>}:leases              sorted set  <batch>/<line> by when the lease lapses
-- KEYS[7]  {b.<tenant>}:owners              hash        <batch>/<line> -> token
-- ARGV     batch, line, "completed" | "failed", entry, then what it cost: metric, amount, …
--
-- Returns 1, or 0 when it does not count: it was written before, or the batch is over.
local head = redis.call("HMGET", KEYS[1], "status", "frozen", "total")
if (head[1] ~= "in_progress" and head[1] ~= "cancelling") or head[2] or redis.call("HDEL", KEYS[3], ARGV[2]) == 0 then
  return 0
end
redis.call("HSET", ARGV[3] == "completed" and KEYS[4] or KEYS[5], ARGV[2], ARGV[4])
redis.call("ZREM", KEYS[2], ARGV[2])
redis.call("ZREM", KEYS[6], ARGV[1] .. "/" .. ARGV[2])
redis.call("HDEL", KEYS[7], ARGV[1] .. "/" .. ARGV[2])
redis.call("HINCRBY", KEYS[1], ARGV[3], 1)
for i = 5, #ARGV, 2 do
  redis.call("HINCRBY", KEYS[1], ARGV[i], ARGV[i + 1])
end
if head[1] == "in_progress" and redis.call("HLEN", KEYS[3]) == 0 then
  redis.call("HSET", KEYS[1], "status", "finalizing", "frozen", 1, "outcome", "completed")
  redis.call("HSETNX", KEYS[1], "finalizing_at", redis.call("TIME")[1])
end
return 1
