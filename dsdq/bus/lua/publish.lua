-- Put one message into a worker's inbox, unless it is full, closed, or was never opened for this tenant.
--
-- KEYS[1]  {w.<wid>}:in:<tenant>  stream  the inbox
-- KEYS[2]  {w.<wid>}:state        hash    bound, slots, closed, retry_ms
-- ARGV[1]  message bytes
-- ARGV[2]  "open" keeps a place free for each slot's session, so that opens that wait make no session BUSY; else ""
--
-- Returns {"OK", entry id}, {"BUSY", retry_ms} or {"GONE"}.
local state = redis.call("HMGET", KEYS[2], "bound", "closed", "retry_ms", "slots")
if not state[1] or state[2] == "1" or redis.call("EXISTS", KEYS[1]) == 0 then
  return {"GONE"}
end
local kept = ARGV[2] == "open" and tonumber(state[4]) or 0
if redis.call("XLEN", KEYS[1]) >= tonumber(state[1]) - kept then
  return {"BUSY", state[3]}
end
return {"OK", redis.call("XADD", KEYS[1], "*", "m", ARGV[1])}
