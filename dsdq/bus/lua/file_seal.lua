-- Make a file whole, once: from now on it is listed, read and not written.
--
-- KEYS[1]  {b.<tenant>}:files      sorted set  file -> when it expires, in Redis milliseconds
-- KEYS[2]  {b.<tenant>}:file:<id>  hash        `meta`, `count`, and number -> chunk
-- ARGV     file, meta (JSON), how many chunks, when it expires, in Redis milliseconds
--
-- Returns the meta that it has.
if redis.call("HSETNX", KEYS[2], "meta", ARGV[2]) == 1 then
  redis.call("HSET", KEYS[2], "count", ARGV[3])
  redis.call("PEXPIREAT", KEYS[2], ARGV[4])
  redis.call("ZADD", KEYS[1], ARGV[4], ARGV[1])
  return ARGV[2]
end
return redis.call("HGET", KEYS[2], "meta")
