-- Say what there is to do for a tenant. Changes nothing.
--
-- KEYS[1]  {b.<tenant>}:active  sorted set  batches that have not ended, by when they were made
-- KEYS[2]  {b.<tenant>}:leases  sorted set  <batch>/<line> by when the lease lapses, in Redis milliseconds
--          {b.<tenant>}:batch:<id> and its :todo, of the active ones, in the same slot
--
-- Returns lines that wait, lines that are being done, then of each active batch: its id, its status, how many of its
-- lines are being done, and 1 if its window is over, else 0.
local prefix = string.match(KEYS[1], "^{b%.[^}]+}:")
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local leases = redis.call("ZRANGE", KEYS[2], 0, -1, "WITHSCORES")
local alive, lapsed, running, waiting, found = {}, {}, 0, 0, {}
for i = 1, #leases, 2 do
  local batch = string.match(leases[i], "^[^/]+")
  if tonumber(leases[i + 1]) > now then
    alive[batch], running = (alive[batch] or 0) + 1, running + 1
  else
    lapsed[batch] = (lapsed[batch] or 0) + 1
  end
end
for _, batch in ipairs(redis.call("ZRANGE", KEYS[1], 0, -1)) do
  local head = redis.call("HMGET", prefix .. "batch:" .. batch, "status", "deadline_ms")
  local over = tonumber(head[2] or "0") <= now
  if head[1] == "in_progress" and not over then
    waiting = waiting + redis.call("ZCARD", prefix .. "batch:" .. batch .. ":todo") + (lapsed[batch] or 0)
  end
  found[#found + 1] = batch
  found[#found + 1] = head[1] or ""
  found[#found + 1] = alive[batch] or 0
  found[#found + 1] = over and 1 or 0
end
return { waiting, running, unpack(found) }
