-- Lease lines of a tenant's batches to a worker, oldest batch first; before, give back those whose lease has lapsed.
--
-- KEYS[1]  {b.<tenant>}:active  sorted set  batches that have not ended, by when they were made
-- KEYS[2]  {b.<tenant>}:leases  sorted set  <batch>/<line> by when the lease lapses, in Redis milliseconds
-- KEYS[3]  {b.<tenant>}:owners  hash        <batch>/<line> -> token
--          {b.<tenant>}:batch:<id> and its :todo, :lines and :tries, in the same slot
-- ARGV     token, lines wanted, lease_ms
--
-- Returns of each line: batch, endpoint, line, how many leases of it have lapsed, what is to be done.
local prefix = string.match(KEYS[1], "^{b%.[^}]+}:")
local time = redis.call("TIME")
local now, wanted = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[2])
for _, member in ipairs(redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", now, "LIMIT", 0, 1000)) do
  local id, line = string.match(member, "^([^/]+)/(.+)$")
  local place = prefix .. "batch:" .. id
  redis.call("ZREM", KEYS[2], member)
  redis.call("HDEL", KEYS[3], member)
  if redis.call("HEXISTS", place .. ":lines", line) == 1 then
    redis.call("ZADD", place .. ":todo", line, line)
    redis.call("HINCRBY", place .. ":tries", line, 1)
  end
end
local taken = {}
for _, id in ipairs(redis.call("ZRANGE", KEYS[1], 0, -1)) do
  local place = prefix .. "batch:" .. id
  local head = redis.call("HMGET", place, "status", "endpoint", "deadline_ms")
  if head[1] == "in_progress" and tonumber(head[3]) > now then
    local lines = redis.call("ZPOPMIN", place .. ":todo", wanted)
    for i = 1, #lines, 2 do
      local work = redis.call("HGET", place .. ":lines", lines[i])
      if work then
        redis.call("ZADD", KEYS[2], now + tonumber(ARGV[3]), id .. "/" .. lines[i])
        redis.call("HSET", KEYS[3], id .. "/" .. lines[i], ARGV[1])
        for _, value in ipairs({ id, head[2], lines[i], redis.call("HGET", place .. ":tries", lines[i]) or "0", work }) do
          taken[#taken + 1] = value
        end
        wanted = wanted - 1
      end
    end
    if wanted <= 0 then
      break
    end
  end
end
return taken
