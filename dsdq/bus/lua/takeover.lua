-- Make another worker the owner of a session, if it still is the expected worker's.
--
-- KEYS[1]  {p.<producer>}:<tenant>:<sid>:head  hash
-- ARGV     expected worker, new worker, new owner token
--
-- Returns {"OK", epoch, entries, round, branch} with the head's new epoch; {"GONE"}: no such session, or closed;
-- {"OTHER"}: a third worker's. One that is the new worker's already is taken over from itself: a takeover before this
-- one was interrupted. Asked again with the same owner token it answers the same. From here on the former owner is
-- fenced, so the log read next is complete.
local head = redis.call("HMGET", KEYS[1], "epoch", "owner", "worker", "status", "entries", "round", "branch")
if not head[1] or head[4] ~= "open" then
  return {"GONE"}
end
local epoch = tonumber(head[1])
if head[2] ~= ARGV[3] then
  if head[3] ~= ARGV[1] and head[3] ~= ARGV[2] then
    return {"OTHER"}
  end
  epoch = epoch + 1
  redis.call("HSET", KEYS[1], "epoch", epoch, "owner", ARGV[3], "worker", ARGV[2])
end
return {"OK", epoch, tonumber(head[5]), tonumber(head[6]), tonumber(head[7])}
