-- Put one chunk of a file that is being written; the same chunk again changes nothing.
--
-- KEYS[1]  {b.<tenant>}:files      sorted set  file -> when it expires, in Redis milliseconds
-- KEYS[2]  {b.<tenant>}:sizes      hash        file -> bytes that its chunks take
-- KEYS[3]  {b.<tenant>}:stored     string      sum of these
-- KEYS[4]  {b.<tenant>}:file:<id>  hash        number -> chunk; `meta` once it is whole: then it is never written again
-- ARGV     file, number, chunk, ttl_ms of a file that is not whole, bytes that the tenant may have stored (0: no bound)
--
-- Returns 1, or 0 when the tenant has no room for it; nothing is changed then.
if redis.call("HEXISTS", KEYS[4], "meta") == 1 then
  return 1
end
local more = #ARGV[3] - redis.call("HSTRLEN", KEYS[4], ARGV[2])
local most = tonumber(ARGV[5])
if most > 0 and more > 0 and tonumber(redis.call("GET", KEYS[3]) or "0") + more > most then
  return 0
end
local time = redis.call("TIME")
redis.call("HSET", KEYS[4], ARGV[2], ARGV[3])
redis.call("PEXPIRE", KEYS[4], ARGV[4])
redis.call("ZADD", KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[4]), ARGV[1])
redis.call("HINCRBY", KEYS[2], ARGV[1], more)
redis.call("INCRBY", KEYS[3], more)
return 1
