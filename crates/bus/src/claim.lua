-- A leader writes its epoch beside the history that it goes on with: when it is gone, so is that history. Beside it stands which
-- database it reads, so that a copy of that database never goes on with it.
-- KEYS: state. ARGV: epoch, the epoch that was found there ('' for none), its database, a database whose place it takes, its
-- database's timeline.
-- Answers {0}, {1} where another stands there, {2, epoch} where a newer leader's does, {4, database} where another's history is, or
-- {5, timeline} where that of the same database on a later timeline is: this one was replaced by a promoted standby.
local at = redis.call('HMGET', KEYS[1], 'c', 'd', 't')
local known, origin, timeline = at[1], at[2], at[3]
if origin and origin ~= ARGV[3] and origin ~= ARGV[4] then
  return {4, origin}
end
if timeline and origin ~= ARGV[4] and tonumber(timeline) > tonumber(ARGV[5]) then
  return {5, timeline}
end
if known and tonumber(known) > tonumber(ARGV[1]) then
  return {2, known}
end
if (known or '') ~= ARGV[2] then return {1} end
redis.call('HSET', KEYS[1], 'c', ARGV[1], 'd', ARGV[3], 't', ARGV[5])
return {0}
