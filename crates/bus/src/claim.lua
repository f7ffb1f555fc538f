-- A leader writes its epoch beside the history that it goes on with: when it is gone, so is that history. Beside it stands which
-- database it reads, so that a copy of that database never goes on with it.
-- KEYS: state. ARGV: epoch, the epoch that was found there ('' for none), its database, a database whose place it takes.
-- Answers {0}, {1} where another stands there, {2, epoch} where a newer leader's does, or {4, database} where another's history is.
local at = redis.call('HMGET', KEYS[1], 'c', 'd')
local known, origin = at[1], at[2]
if origin and origin ~= ARGV[3] and origin ~= ARGV[4] then
  return {4, origin}
end
if known and tonumber(known) > tonumber(ARGV[1]) then
  return {2, known}
end
if (known or '') ~= ARGV[2] then return {1} end
redis.call('HSET', KEYS[1], 'c', ARGV[1], 'd', ARGV[3])
return {0}
