-- A leader writes its epoch beside the history that it goes on with: when it is gone, so is that history.
-- KEYS: state. ARGV: epoch, the epoch that was found there ('' for none).
-- Answers {0}, {1} where another stands there, or {2, epoch} where a newer leader's does.
local known = redis.call('HGET', KEYS[1], 'c')
if known and tonumber(known) > tonumber(ARGV[1]) then
  return {2, known}
end
if (known or '') ~= ARGV[2] then return {1} end
redis.call('HSET', KEYS[1], 'c', ARGV[1])
return {0}
