-- Begin a session's log, once: with "opened", or with the error that refuses it.
--
-- KEYS[1]  {p.<producer>}:<tenant>:<sid>:head  hash
-- KEYS[2]  {p.<producer>}:<tenant>:<sid>:log   stream, entries 1-0, 2-0, …
-- KEYS[3]  {p.<producer>}:<tenant>:feed        stream of hints
-- KEYS[4]  {p.<producer>}:<tenant>:usage:<month>  hash from `<hours since 1970>:<metric>` to what was used
-- ARGV     session, status (open | closed), epoch, owner, worker, length, digest, answer bytes, raw open bytes,
--          ttl_ms, feed entries, usage ttl_ms
--
-- Returns "OK" (also when this very call was answered before and the answer was lost), or "EXISTS" when the session was
-- answered otherwise; nothing is changed then.
local owner = redis.call("HGET", KEYS[1], "owner")
if owner then
  return owner == ARGV[4] and ARGV[4] ~= "" and "OK" or "EXISTS"
end
redis.call("HSET", KEYS[1], "status", ARGV[2], "epoch", ARGV[3], "owner", ARGV[4], "worker", ARGV[5],
  "length", ARGV[6], "digest", ARGV[7], "round", "0", "branch", "0", "entries", "1")
redis.call("XADD", KEYS[2], "1-0", "m", ARGV[8], "e", ARGV[3], "o", ARGV[9])
redis.call("XADD", KEYS[3], "MAXLEN", "~", ARGV[11], "*", "s", ARGV[1], "n", "1", "e", ARGV[3], "m", ARGV[8])
redis.call("PEXPIRE", KEYS[1], ARGV[10])
redis.call("PEXPIRE", KEYS[2], ARGV[10])
redis.call("PEXPIRE", KEYS[3], ARGV[10])
if ARGV[2] == "open" then
  redis.call("HINCRBY", KEYS[4], math.floor(redis.call("TIME")[1] / 3600) .. ":sessions", 1)
  redis.call("PEXPIRE", KEYS[4], ARGV[12])
end
return "OK"
