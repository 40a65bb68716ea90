-- Put one message into a worker's inbox, unless it is full, closed, or was never opened for this tenant.
--
-- KEYS[1]  {w.<wid>}:in:<tenant>  stream  the inbox
-- KEYS[2]  {w.<wid>}:state        hash    bound, closed, retry_ms
-- ARGV[1]  message bytes
--
-- Returns {"OK", entry id}, {"BUSY", retry_ms} or {"GONE"}.
local state = redis.call("HMGET", KEYS[2], "bound", "closed", "retry_ms")
if not state[1] or state[2] == "1" or redis.call("EXISTS", KEYS[1]) == 0 then
  return {"GONE"}
end
if redis.call("XLEN", KEYS[1]) >= tonumber(state[1]) then
  return {"BUSY", state[3]}
end
return {"OK", redis.call("XADD", KEYS[1], "*", "m", ARGV[1])}
