-- A leader's heartbeat, unless a newer leader has spoken, or it was held up on its way: it would say of a moment that is
-- gone that all was well. KEYS: state. ARGV: epoch, heartbeat, channel, publish command, until when it counts
-- (milliseconds of this server's clock; '' for always).
-- Answers {0, this server's clock}, {2, epoch}, or {3, this server's clock} where it came too late.
local known = redis.call('HGET', KEYS[1], 'e')
if known and tonumber(known) > tonumber(ARGV[1]) then
  return {2, known}
end
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
if ARGV[5] ~= '' and tonumber(now) > tonumber(ARGV[5]) then
  return {3, now}
end
redis.call('HSET', KEYS[1], 'e', ARGV[1], 'h', ARGV[2])
redis.call(ARGV[4], ARGV[3], ARGV[2])
return {0, now}
