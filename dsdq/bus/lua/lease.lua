-- Join the workers of a model, or renew a lease. A lapsed lease is never renewed: its sessions may be another's by now.
--
-- KEYS[1]  {m.<model>}:workers  sorted set  worker -> end of lease, Redis time in milliseconds; 0: handed over
-- KEYS[2]  {m.<model>}:info     hash        worker -> packed entry
-- ARGV     worker, packed entry, lease_ms, "join" | "renew"
--
-- Returns the workers whose lease has lapsed, or "LAPSED" if this one's has.
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[4] == "renew" then
  local ends = redis.call("ZSCORE", KEYS[1], ARGV[1])
  if not ends or tonumber(ends) < now then
    return "LAPSED"
  end
end
redis.call("ZADD", KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
redis.call("HSET", KEYS[2], ARGV[1], ARGV[2])
return redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", "(" .. now)
