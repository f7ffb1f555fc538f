-- What a leader must know of a room before it appends: the head, how long ago it moved, and the ids of the
-- log's last events. KEYS: log, head. ARGV: how many.
-- Answers {} without a head, else {stream, offset, epoch, ms since the last append, {ids, newest first}}; an id that
-- begins with '!' stands for a resync (the second byte of a record is its kind).
local at = redis.call('HMGET', KEYS[2], 's', 'o', 'e', 't')
if not at[1] then return {} end
local ids = {}
for i, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[1])) do
  local resync = string.byte(entry[2][4], 2) == 1
  ids[i] = (resync and '!' or '') .. entry[2][2]
end
local since = (tonumber(at[4]) or 0) - redis.call('PTTL', KEYS[2])
return {at[1], at[2], at[3], string.format('%.0f', since), ids}
