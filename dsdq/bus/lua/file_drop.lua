-- Delete one file, or all that have expired, those among them that were never made whole.
--
-- KEYS[1]  {b.<tenant>}:files   sorted set  file -> when it expires, in Redis milliseconds
-- KEYS[2]  {b.<tenant>}:sizes   hash        file -> bytes that its chunks take
-- KEYS[3]  {b.<tenant>}:stored  string      sum of these
--          {b.<tenant>}:file:<id> of each, in the same slot
-- ARGV     file, "" for those that have expired (a hundred at most)
--
-- Returns how many were there.
local prefix = string.match(KEYS[1], "^{b%.[^}]+}:")
local time, gone = redis.call("TIME"), { ARGV[1] }
if ARGV[1] == "" then
  gone = redis.call("ZRANGEBYSCORE", KEYS[1], "-inf", time[1] * 1000 + math.floor(time[2] / 1000), "LIMIT", 0, 100)
end
local count = 0
for _, file in ipairs(gone) do
  count = count + redis.call("ZREM", KEYS[1], file)
  local size = redis.call("HGET", KEYS[2], file)
  if size then
    redis.call("DECRBY", KEYS[3], size)
    redis.call("HDEL", KEYS[2], file)
  end
  redis.call("UNLINK", prefix .. "file:" .. file)
end
return count
