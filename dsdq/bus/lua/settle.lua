-- Acknowledge and delete entries that were answered: one that is only acknowledged still takes memory and a place.
--
-- KEYS[1]  {w.<wid>}:in:<tenant>        stream  the inbox
-- KEYS[2]  {w.<wid>}:in:<tenant>:bytes  string  bytes of the messages in it
-- ARGV     group, then for each entry its id and its message's size in bytes
--
-- Returns how many were there. An entry that was settled before changes nothing.
local deleted, freed = 0, 0
for i = 2, #ARGV, 2 do
  redis.call("XACK", KEYS[1], ARGV[1], ARGV[i])
  if redis.call("XDEL", KEYS[1], ARGV[i]) == 1 then
    deleted = deleted + 1
    freed = freed + tonumber(ARGV[i + 1])
  end
end
-- A device may have put in what it did not count, or have set the count to anything, to where it overflows too.
if redis.call("XLEN", KEYS[1]) == 0 then
  redis.call("DEL", KEYS[2])
elseif freed > 0 then
  local left = redis.pcall("DECRBY", KEYS[2], freed)
  if type(left) == "table" or left < 0 then
    redis.call("SET", KEYS[2], "0", "KEEPTTL")
  end
end
return deleted
