-- Put a tenant's record, if it is still what the caller has seen, and count the change.
--
-- KEYS[1]  {tenants}:records  hash from name to JSON document
-- KEYS[2]  {tenants}:version  how many changes there were
-- ARGV     name, document as it was seen ("" for none), new document
--
-- Returns 1, or 0 when somebody else has changed it meanwhile.
if (redis.call("HGET", KEYS[1], ARGV[1]) or "") ~= ARGV[2] then
  return 0
end
redis.call("HSET", KEYS[1], ARGV[1], ARGV[3])
redis.call("INCR", KEYS[2])
return 1
