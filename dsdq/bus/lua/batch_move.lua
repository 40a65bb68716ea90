-- Move a batch to another status, if it is in one from which that is allowed.
--
-- KEYS[1]  {b.<tenant>}:batch:<id>  hash
-- KEYS[2]  {b.<tenant>}:active      sorted set  batches that have not ended
-- KEYS[3…] {b.<tenant>}:batch:<id>:*  what it works with, deleted when it ends
-- ARGV     batch, new status, allowed statuses (",a,b,"), milliseconds that an ended one is kept, field, value, …
--
-- Returns 1, or 0 when it is in no such status, or there is none.
local status = redis.call("HGET", KEYS[1], "status")
if not status or not string.find(ARGV[3], "," .. status .. ",", 1, true) then
  return 0
end
local ends = ARGV[2] == "completed" or ARGV[2] == "failed" or ARGV[2] == "expired" or ARGV[2] == "cancelled"
redis.call("HSET", KEYS[1], "status", ARGV[2], unpack(ARGV, 5))
if status ~= ARGV[2] then
  redis.call("HSETNX", KEYS[1], ARGV[2] .. "_at", redis.call("TIME")[1])
end
if ends then
  redis.call("ZREM", KEYS[2], ARGV[1])
  redis.call("PEXPIRE", KEYS[1], ARGV[4])
  redis.call("UNLINK", unpack(KEYS, 3))
end
return 1
