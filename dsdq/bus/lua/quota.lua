-- Reserve of a tenant's limits for a session before it opens; renew that while it runs; settle it when it has ended.
--
-- KEYS[1]  {t.<tenant>}:quota     hash: `<limit>:left` of each minute's limit and `<limit>:at` in Redis milliseconds;
--                                 `month` (years * 12 + months) and `used` of the month's limit
-- KEYS[2]  {t.<tenant>}:sessions  sorted set of sessions by when their reservation lapses, in Redis milliseconds
-- KEYS[3]  {t.<tenant>}:reserved  hash from session to "committed verified used_committed used_verified epoch month"
-- ARGV     mode (reserve | renew | settle), session, ttl_ms, committed, verified, used_committed, used_verified, epoch of
--          the session's owner, then limits, "" for none: requests_per_minute, committed_per_minute, verified_per_minute,
--          sessions, committed_per_month
--
-- Of a reservation that lapses is given back what was not used when it was last renewed. `reserve` answers one that is
-- there already with success; `renew` makes one again that has lapsed, and takes `committed` and `verified` where they
-- are more than was reserved; `settle` puts what was used in the place of what was reserved, once. An owner of a lower
-- epoch than the one that renewed last is not heard: it has lost the session.
--
-- Returns {"OK", what is left of verified_per_minute}, or {"NO", limit, what is left of it, milliseconds until there is
-- enough, -1 for never}; nothing is taken then.
local MINUTE_MS, DAY_MS, KEPT_MS, MOST_LAPSED = 60000, 86400000, 64 * 86400000, 100
local mode, session, ttl_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local committed, verified = tonumber(ARGV[4]), tonumber(ARGV[5])
local used_committed, used_verified, epoch = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local limits = {
  requests_per_minute = tonumber(ARGV[9]),
  committed_per_minute = tonumber(ARGV[10]),
  verified_per_minute = tonumber(ARGV[11]),
  sessions = tonumber(ARGV[12]),
  committed_per_month = tonumber(ARGV[13]),
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
  local text = redis.call("HGET", KEYS[3], whose)
  if not text then
    return nil
  end
  local numbers = {}
  for number in string.gmatch(text, "%d+") do
    numbers[#numbers + 1] = tonumber(number)
  end
  return {
    committed = numbers[1], verified = numbers[2], used_committed = numbers[3], used_verified = numbers[4],
    epoch = numbers[5], month = numbers[6],
  }
end

-- Take more, or give back, of what one session has; of a month's limit only in the month in which it was taken.
local function change(more_committed, more_verified, of_month)
  take("committed_per_minute", more_committed)
  take("verified_per_minute", more_verified)
  if of_month == month then
    use(more_committed)
  end
end

local function forget(whose)
  redis.call("ZREM", KEYS[2], whose)
  redis.call("HDEL", KEYS[3], whose)
end

local function hold(amount, positions, of_epoch)
  redis.call("ZADD", KEYS[2], now + ttl_ms, session)
  redis.call("HSET", KEYS[3], session,
    string.format("%d %d %d %d %d %d", amount, positions, used_committed, used_verified, of_epoch, month))
  for _, key in ipairs(KEYS) do
    redis.call("PEXPIRE", key, KEPT_MS)
  end
end

local function ok()
  return { "OK", limits.verified_per_minute and string.format("%d", math.floor(left_of("verified_per_minute"))) or "" }
end

if mode ~= "settle" then
  local most = string.format("%d", now)
  for _, lapsed in ipairs(redis.call("ZRANGEBYSCORE", KEYS[2], "-inf", most, "LIMIT", 0, MOST_LAPSED)) do
    local had = reserved_by(lapsed)
    if lapsed ~= session or mode == "reserve" then
      if had then
        change(had.used_committed - had.committed, had.used_verified - had.verified, had.month)
      end
      forget(lapsed)
    end
  end
end

local had = reserved_by(session)
if had and mode ~= "reserve" and epoch < had.epoch then
  return ok()
end

if mode == "settle" then
  if had then
    change(used_committed - had.committed, used_verified - had.verified, had.month)
    forget(session)
  end
  return ok()
end

if mode == "renew" then
  had = had or { committed = 0, verified = 0, month = month }
  local amount, positions = math.max(committed, had.committed), math.max(verified, had.verified)
  change(amount - had.committed, positions - had.verified, had.month)
  if had.month ~= month then
    use(amount - used_committed) -- what is still to come counts in the month in which it comes
  end
  hold(amount, positions, epoch)
  return ok()
end

if had then
  used_committed, used_verified = had.used_committed, had.used_verified
  hold(had.committed, had.verified, had.epoch)
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
change(committed, verified, month)
hold(committed, verified, epoch)
return ok()
