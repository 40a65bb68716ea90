-- Refuse what was put into an inbox past its bound: `publish.lua` keeps the bound, but a device may also XADD by itself.
--
-- KEYS[1]  {w.<wid>}:in:<tenant>        stream  the inbox
-- KEYS[2]  {w.<wid>}:in:<tenant>:bytes  string  bytes of the messages in it
-- ARGV     group, entries that may stay, most entries to delete, entries wanted as a sample
--
-- Deletes the newest entries that no worker has read yet, and returns how many, then the id and the fields of each of
-- the sample.
local excess = math.min(redis.call("XLEN", KEYS[1]) - tonumber(ARGV[2]), tonumber(ARGV[3]))
local cut, freed, sample = 0, 0, {}
if excess <= 0 then
  return {0}
end
local delivered
for _, info in ipairs(redis.call("XINFO", "GROUPS", KEYS[1])) do
  local group = {}
  for i = 1, #info, 2 do
    group[info[i]] = info[i + 1]
  end
  if group["name"] == ARGV[1] then
    delivered = group["last-delivered-id"]
  end
end
while delivered and cut < excess do
  local entries = redis.call("XREVRANGE", KEYS[1], "+", "(" .. delivered, "COUNT", math.min(excess - cut, 50))
  if #entries == 0 then
    break
  end
  for _, entry in ipairs(entries) do
    redis.call("XDEL", KEYS[1], entry[1])
    cut = cut + 1
    for i = 1, #entry[2], 2 do
      freed = freed + (entry[2][i] == "m" and #entry[2][i + 1] or 0)
    end
    if #sample < tonumber(ARGV[4]) then
      sample[#sample + 1] = entry
    end
  end
end
if freed > 0 then
  local left = redis.pcall("DECRBY", KEYS[2], freed)
  if type(left) == "table" or left < 0 then -- what was not published was not counted
    redis.call("SET", KEYS[2], "0", "KEEPTTL")
  end
end
return {cut, unpack(sample)}
