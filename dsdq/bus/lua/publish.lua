-- Put one message into a worker's inbox, unless it is full, closed, or was never opened for this tenant.
--
-- KEYS[1]  {w.<wid>}:in:<tenant>        stream  the inbox
-- KEYS[2]  {w.<wid>}:in:<tenant>:bytes  string  bytes of the messages in it
-- KEYS[3]  {w.<wid>}:state              hash    bound, kept, bytes, drained_per_s, closed, and for each tenant
--                                               busy:<tenant>: how long an open of its would be told to stay away, or 0
-- ARGV     message bytes,
--          "open": leaves the kept places (and half of the bytes) free, so that opens that wait make no admitted
--          session BUSY; else "",
--          producer, then session and MAC of a sealed message
--
-- Returns {"OK", entry id}, {"BUSY", ms} or {"GONE"}. The ms are those in which a sixteenth of the inbox drains, or, for
-- an open that would wait too long for a place, what the verifier says.
local busy = "busy:" .. string.match(KEYS[1], ":in:(.*)$")
local state = redis.call("HMGET", KEYS[3], "bound", "kept", "bytes", "drained_per_s", "closed", busy)
if not state[1] or state[5] == "1" or redis.call("EXISTS", KEYS[1]) == 0 then
  return {"GONE"}
end
local bound, bytes = tonumber(state[1]), tonumber(state[3])
if ARGV[2] == "open" then
  bound, bytes = bound - tonumber(state[2]), bytes / 2
  local stay = tonumber(state[6] or "0")
  if stay > 0 then
    return {"BUSY", stay}
  end
end
local held = tonumber(redis.call("GET", KEYS[2]) or "0")
if redis.call("XLEN", KEYS[1]) >= bound or held + #ARGV[1] > bytes then
  local ms = 1000 * math.max(1, tonumber(state[1]) / 16) / math.max(1, tonumber(state[4]))
  return {"BUSY", math.ceil(math.min(math.max(ms, 5), 5000))}
end
redis.call("INCRBY", KEYS[2], #ARGV[1])
if ARGV[5] then
  return {"OK", redis.call("XADD", KEYS[1], "*", "m", ARGV[1], "p", ARGV[3], "s", ARGV[4], "a", ARGV[5])}
end
return {"OK", redis.call("XADD", KEYS[1], "*", "m", ARGV[1], "p", ARGV[3])}
