-- Append to a session's log, if the caller still owns the session and nothing was appended since it looked.
--
-- KEYS[1]  {p.<producer>}:<tenant>:<sid>:head  hash
-- KEYS[2]  {p.<producer>}:<tenant>:<sid>:log   stream, entries 1-0, 2-0, …
-- KEYS[3]  {p.<producer>}:<tenant>:feed        stream of hints
-- KEYS[4]  {p.<producer>}:<tenant>:usage:<month>  hash from `<hours since 1970>:<metric>` to what was used
-- ARGV     session, epoch, owner, expected entries, expected length, new length, digest, round, branch,
--          status (open | closed), ttl_ms, feed entries, usage ttl_ms, what is used by this commit (committed, accepted,
--          rejected, corrected, verified, prefill, kv_token_ms), message bytes …
--
-- Returns "OK"; "DONE": this very append was made before, whatever followed it, and its answer was lost; "GONE": no such
-- session, or closed; "FENCED": another epoch or owner; "BEHIND": the log ends elsewhere: Redis lost its last writes.
-- Nothing is changed unless it returns "OK".
local head = redis.call("HMGET", KEYS[1], "epoch", "owner", "entries", "length", "status")
if not head[1] then
  return "GONE"
end
if head[1] ~= ARGV[2] or head[2] ~= ARGV[3] then
  return "FENCED"
end
local METRICS = { "committed", "accepted", "rejected", "corrected", "verified", "prefill", "kv_token_ms" }
local entries, first = tonumber(head[3]), 14 + #METRICS
-- Whatever is there was appended by this very owner, and an owner appends in one order only.
if entries >= tonumber(ARGV[4]) + #ARGV - first + 1 then
  return "DONE"
end
if head[5] ~= "open" then
  return "GONE"
end
if head[3] ~= ARGV[4] or head[4] ~= ARGV[5] then
  return "BEHIND"
end
for i = first, #ARGV do
  entries = entries + 1
  redis.call("XADD", KEYS[2], entries .. "-0", "m", ARGV[i], "e", ARGV[2])
  redis.call("XADD", KEYS[3], "MAXLEN", "~", ARGV[12], "*", "s", ARGV[1], "n", entries, "e", ARGV[2], "m", ARGV[i])
end
redis.call("HSET", KEYS[1], "length", ARGV[6], "digest", ARGV[7], "round", ARGV[8], "branch", ARGV[9],
  "status", ARGV[10], "entries", entries)
redis.call("PEXPIRE", KEYS[1], ARGV[11])
redis.call("PEXPIRE", KEYS[2], ARGV[11])
redis.call("PEXPIRE", KEYS[3], ARGV[11])
local hour, used = math.floor(redis.call("TIME")[1] / 3600), false
for i, metric in ipairs(METRICS) do
  if ARGV[13 + i] ~= "0" then
    redis.call("HINCRBY", KEYS[4], hour .. ":" .. metric, ARGV[13 + i])
    used = true
  end
end
if used then
  redis.call("PEXPIRE", KEYS[4], ARGV[13])
end
return "OK"
