-- Compare-and-append: one event to the end of one room's log, or nothing.
-- KEYS: log, head. ARGV: form ('append' | 'create'), epoch, stream, expected offset, event id, record,
-- channel, publish command, log length, log lifetime ms, head lifetime ms, replaced stream, replaced offset.
-- Answers {0} appended, {1} no head, {1, stream, offset} another head, {2, epoch} an older leader.
-- Every check comes before the first write.
local log, head = KEYS[1], KEYS[2]
local epoch, stream = ARGV[2], ARGV[3]
local at = redis.call('HMGET', head, 's', 'o', 'e')
if at[3] and tonumber(at[3]) > tonumber(epoch) then
  return {2, at[3]}
end
local offset
if ARGV[1] == 'append' then
  if not at[1] then return {1} end
  if at[1] ~= stream or at[2] ~= ARGV[4] then return {1, at[1], at[2]} end
  offset = string.format('%.0f', tonumber(at[2]) + 1)
else
  if at[1] and (at[1] ~= ARGV[12] or at[2] ~= ARGV[13]) then return {1, at[1], at[2]} end
  if not at[1] and ARGV[12] ~= '' then return {1} end
  offset = '1'
end
-- Before DEL: once a script has written, a full Redis lets the rest of it pass its limit.
redis.call('HSET', head, 's', stream, 'o', offset, 'e', epoch, 'l', ARGV[10], 't', ARGV[11])
if offset == '1' then redis.call('DEL', log) end
redis.call('XADD', log, 'MAXLEN', '~', ARGV[9], offset .. '-0', 'i', ARGV[5], 'r', ARGV[6])
redis.call('PEXPIRE', log, ARGV[10])
redis.call('PEXPIRE', head, ARGV[11])
redis.call(ARGV[8], ARGV[7], ARGV[6])
return {0}
