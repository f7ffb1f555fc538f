-- A leader's heartbeat, unless a newer leader has spoken. KEYS: state. ARGV: epoch, heartbeat, channel, publish command.
-- Answers {0} or {2, epoch}.
local known = redis.call('HGET', KEYS[1], 'e')
if known and tonumber(known) > tonumber(ARGV[1]) then
  return {2, known}
end
redis.call('HSET', KEYS[1], 'e', ARGV[1], 'h', ARGV[2])
redis.call(ARGV[4], ARGV[3], ARGV[2])
return {0}
