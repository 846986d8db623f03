-- ARGV: group, lease of foreign consumers in ms.
-- Returns: {ready, in flight, delayed, dead, age of the oldest in ms or -1}.
local COUNTED = 10000
local length, held, oldest = 0, 0, nil
for band = 1, BANDS do
  local key = KEYS[band]
  length = length + redis.call('XLEN', key)
  for _, holder in ipairs(consumers_of(key, ARGV[1])) do
    -- What was released, or whose lease has ended, is anybody's: ready.
    held = held + holder.pending - #ended(key, ARGV[1], holder, ARGV[2], COUNTED)
  end
  local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  if first then
    local published = tonumber(get(first[2], 'published') or '')
      or tonumber(string.match(first[1], '^%d+'))
    oldest = math.min(oldest or published, published)
  end
end
local age = oldest and math.max(0, now_ms - oldest) or -1
-- Pending entries that somebody deleted are in no stream.
return {math.max(0, length - held), held, redis.call('ZCARD', DELAYED), redis.call('XLEN', DEAD), age}
