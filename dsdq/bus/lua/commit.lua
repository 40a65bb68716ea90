-- Append to a session's log, if the caller still owns the session and nothing was committed since it looked.
--
-- KEYS[1]  {p.<producer>}:<tenant>:<sid>:head  hash
-- KEYS[2]  {p.<producer>}:<tenant>:<sid>:log   stream, entries 1-0, 2-0, …
-- KEYS[3]  {p.<producer>}:<tenant>:feed        stream of hints
-- ARGV     session, epoch, owner, expected length, new length, digest, round, branch, status (open | closed),
--          ttl_ms, feed entries, message bytes …
--
-- Returns "OK"; "GONE": no such session, or closed; "FENCED": another epoch or owner; "LENGTH": already committed.
-- Nothing is changed unless it returns "OK".
local head = redis.call("HMGET", KEYS[1], "epoch", "owner", "length", "status", "entries")
if not head[1] or head[4] ~= "open" then
  return "GONE"
end
if head[1] ~= ARGV[2] or head[2] ~= ARGV[3] then
  return "FENCED"
end
if head[3] ~= ARGV[4] then
  return "LENGTH"
end
local entries = tonumber(head[5])
for i = 12, #ARGV do
  entries = entries + 1
  redis.call("XADD", KEYS[2], entries .. "-0", "m", ARGV[i])
  redis.call("XADD", KEYS[3], "MAXLEN", "~", ARGV[11], "*", "s", ARGV[1], "n", entries, "m", ARGV[i])
end
redis.call("HSET", KEYS[1], "length", ARGV[5], "digest", ARGV[6], "round", ARGV[7], "branch", ARGV[8],
  "status", ARGV[9], "entries", entries)
redis.call("PEXPIRE", KEYS[1], ARGV[10])
redis.call("PEXPIRE", KEYS[2], ARGV[10])
redis.call("PEXPIRE", KEYS[3], ARGV[10])
return "OK"
