-- Renew the leases of lines, or give the lines back.
--
-- KEYS[1]  {b.<tenant>}:leases  sorted set  <batch>/<line> by when the lease lapses, in Redis milliseconds
-- KEYS[2]  {b.<tenant>}:owners  hash        <batch>/<line> -> token
--          {b.<tenant>}:batch:<id> and its :todo and :lines, in the same slot
-- ARGV     token, "renew" | "release", lease_ms, <batch>/<line>, …
--
-- Returns those that are not to be done any more: another has them, or their batch goes on no longer; when they are
-- given back, all.
local prefix = string.match(KEYS[1], "^{b%.[^}]+}:")
local time = redis.call("TIME")
local ends, lost = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[3]), {}
for i = 4, #ARGV do
  local member = ARGV[i]
  local id, line = string.match(member, "^([^/]+)/(.+)$")
  local place, mine = prefix .. "batch:" .. id, redis.call("HGET", KEYS[2], member) == ARGV[1]
  if mine and ARGV[2] == "renew" and redis.call("HGET", place, "status") == "in_progress" then
    redis.call("ZADD", KEYS[1], ends, member)
  else
    lost[#lost + 1] = member
    if mine then
      redis.call("ZREM", KEYS[1], member)
      redis.call("HDEL", KEYS[2], member)
      if redis.call("HEXISTS", place .. ":lines", line) == 1 then
        redis.call("ZADD", place .. ":todo", line, line)
      end
    end
  end
end
return lost
