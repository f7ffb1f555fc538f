-- What edges go by and have no other way to: a sheet from PostgreSQL. It stands beside the leader's claim, which goes when
-- the keys do; only the leader whose claim stands there writes it, so that an older one undoes nothing, and its own
-- late commands, from a link that broke, do not either.
-- KEYS: state. ARGV: epoch, sheet, version, content.
-- Answers {0}, {1} where the claim is gone or an older one, or {2, epoch} where a newer leader's stands.
local known = redis.call('HGET', KEYS[1], 'c')
if known and tonumber(known) > tonumber(ARGV[1]) then
  return {2, known}
end
if known ~= ARGV[1] then return {1} end
local at = redis.call('HMGET', KEYS[1], 'e:' .. ARGV[2], 'v:' .. ARGV[2])
if at[1] == ARGV[1] and tonumber(at[2]) > tonumber(ARGV[3]) then return {0} end
redis.call('HSET', KEYS[1], 'e:' .. ARGV[2], ARGV[1], 'v:' .. ARGV[2], ARGV[3], 'm:' .. ARGV[2], ARGV[4])
return {0}
