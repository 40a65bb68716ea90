-- Reserve of a tenant's limits for a session before it opens; renew that while it runs; settle it when it has ended.
--
-- KEYS[1]  {t.<tenant>}:quota     hash: `<limit>:left` of each minute's limit and `<limit>:at` in Redis milliseconds;
--                                 `month` (years * 12 + months) and `used` of the month's limit
-- KEYS[2]  {t.<tenant>}:sessions  sorted set of sessions by when their reservation lapses, in Redis milliseconds
-- KEYS[3]  {t.<tenant>}:reserved  hash from session to "committed verified"
-- ARGV     mode (reserve | renew | settle), session, ttl_ms, committed, verified, then limits, "" for none:
--          requests_per_minute, committed_per_minute, verified_per_minute, sessions, committed_per_month
--
-- A reservation that lapses is given back. `reserve` answers one that is there already with success; `renew` makes one
-- again that has lapsed, and takes `committed` and `verified` where they are more than was reserved; `settle` puts what
-- was used in the place of what was reserved, once.
--
-- Returns {"OK", what is left of verified_per_minute}, or {"NO", limit, what is left of it, milliseconds until there is
-- enough, -1 for never}; nothing is taken then.
local MINUTE_MS, DAY_MS, KEPT_MS, MOST_LAPSED = 60000, 86400000, 64 * 86400000, 100
local mode, session, ttl_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local committed, verified = tonumber(ARGV[4]), tonumber(ARGV[5])
local limits = {
  requests_per_minute = tonumber(ARGV[6]),
  committed_per_minute = tonumber(ARGV[7]),
  verified_per_minute = tonumber(ARGV[8]),
  sessions = tonumber(ARGV[9]),
  committed_per_month = tonumber(ARGV[10]),
}
local clock = redis.call("TIME")
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function left_of(name)
  local limit = limits[name]
  local seen = redis.call("HMGET", KEYS[1], name .. ":left", name .. ":at")
  if not seen[1] then
    return limit
  end
  -- A clock that was put back gives nothing for the time that it will pass again, one put forward no more than all.
  local passed = math.max(0, now - tonumber(seen[2]))
  return math.min(limit, tonumber(seen[1]) + passed * limit / MINUTE_MS)
end

local function take(name, amount)
  if limits[name] and amount ~= 0 then
    local left = math.min(limits[name], left_of(name) - amount)
    redis.call("HSET", KEYS[1], name .. ":left", string.format("%.6f", left), name .. ":at", string.format("%d", now))
  end
end

-- Days since 1970 to year and month, and back (the proleptic Gregorian calendar; years begin in March).
local function month_of(days)
  days = days + 719468
  local era = math.floor(days / 146097)
  local of_era = days - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local shifted = math.floor((5 * of_year + 2) / 153)
  local month = shifted < 10 and shifted + 3 or shifted - 9
  return (year + era * 400 + (month <= 2 and 1 or 0)) * 12 + month - 1
end

local month = month_of(math.floor(now / DAY_MS))

local function used_this_month()
  local seen = redis.call("HMGET", KEYS[1], "month", "used")
  return tonumber(seen[1] or "") == month and tonumber(seen[2]) or 0
end

local function use(amount)
  if limits.committed_per_month and amount ~= 0 then
    local used = math.max(0, used_this_month() + amount)
    redis.call("HSET", KEYS[1], "month", string.format("%d", month), "used", string.format("%d", used))
  end
end

local function until_next_month_ms()
  local day = math.floor(now / DAY_MS)
  local first = day + 1
  while month_of(first) == month do
    first = first + 1
  end
  return first * DAY_MS - now
end

local function reserved_by(whose)
  local amounts = redis.call("HGET", KEYS[3], whose)
  if not amounts then
    return nil
  end
  local first, second = string.match(amounts, "^(%d+) (%d+)$")
  return tonumber(first), tonumber(second)
end

local function change(whose, more_committed, more_verified)
  take("committed_per_minute", more_committed)
  take("verified_per_minute", more_verified)
  use(more_committed)
end

local function forget(whose)
  redis.call("ZREM", KEYS[2], whose)
  redis.call("HDEL", KEYS[3], whose)
end

local function hold(amount, positions)
  redis.call("ZADD", KEYS[2], now + ttl_ms, session)
  redis.call("HSET", KEYS[3], session, string.format("%d %d", amount, positions))
  for _, key in ipairs(KEYS) do
    redis.call("PEXPIRE", key, KEPT_MS)
  end
end

local function ok()
  return { "OK", limits.verified_per_minute and string.format("%d", math.floor(left_of("verified_per_minute"))) or "" }
end

for _, lapsed in ipairs(redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", string.format("%d", now), "LIMIT", 0, MOST_LAPSED)) do
  if lapsed ~= session or mode == "reserve" then
    local first, second = reserved_by(lapsed)
    if first then
      change(lapsed, -first, -second)
    end
    forget(lapsed)
  end
end

local had_committed, had_verified = reserved_by(session)

if mode == "settle" then
  if had_committed then
    change(session, committed - had_committed, verified - had_verified)
    forget(session)
  end
  return ok()
end

if mode == "renew" then
  local amount, positions = math.max(committed, had_committed or 0), math.max(verified, had_verified or 0)
  change(session, amount - (had_committed or 0), positions - (had_verified or 0))
  hold(amount, positions)
  return ok()
end

if had_committed then
  hold(had_committed, had_verified)
  return ok()
end

local function refuse(name, left, retry_ms)
  return { "NO", name, string.format("%d", math.floor(left)), string.format("%d", math.ceil(retry_ms)) }
end

if limits.sessions then
  local left = limits.sessions - redis.call("ZCARD", KEYS[2])
  if left < 1 then
    return refuse("sessions", left, 0) -- when one of them ends, which nobody knows
  end
end
local wanted = { requests_per_minute = 1, committed_per_minute = committed, verified_per_minute = verified }
for _, name in ipairs({ "requests_per_minute", "committed_per_minute", "verified_per_minute" }) do
  local limit = limits[name]
  if limit then
    local left, amount = left_of(name), wanted[name]
    if amount > limit then
      return refuse(name, left, -1)
    end
    if amount > left then
      return refuse(name, left, (amount - left) * MINUTE_MS / limit)
    end
  end
end
if limits.committed_per_month then
  local left = limits.committed_per_month - used_this_month()
  if committed > limits.committed_per_month then
    return refuse("committed_per_month", left, -1)
  end
  if committed > left then
    return refuse("committed_per_month", left, until_next_month_ms())
  end
end
take("requests_per_minute", 1)
change(session, committed, verified)
hold(committed, verified)
return ok()
