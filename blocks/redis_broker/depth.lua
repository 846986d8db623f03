-- ARGV: group, lease of foreign consumers in ms, queue.
-- Returns: {ready, in flight, delayed, dead, age of the oldest in ms or -1}.
local COUNTED = 10000
local length, held, oldest = 0, 0, nil

local function note_age(entry)
  if not entry then return end
  local published = tonumber(get(entry[2], 'published') or '')
    or tonumber(string.match(entry[1], '^%d+'))
  oldest = math.min(oldest or published, published)
end

-- What waits in a topic until a reader of this queue moves it; something delayed is ready until then.
local function count_topic(topic)
  local stream = stream_of(topic)
  local group = group_named(groups_of(stream), ARGV[3])
  local position = group and group['last-delivered-id'] or '0-0'
  local waiting = redis.pcall('XLEN', stream)
  if type(waiting) == 'table' then return end
  -- Redis doesn't know the lag where entries have been deleted by hand; the length is no less.
  if group and group.lag then waiting = math.min(waiting, group.lag) end
  length = length + waiting
  if waiting > 0 then
    note_age(redis.call('XRANGE', stream, '(' .. position, '+', 'COUNT', 1)[1])
  end
end

for band = 1, BANDS do
  local key = KEYS[band]
  length = length + redis.call('XLEN', key)
  for _, holder in ipairs(consumers_of(key, ARGV[1])) do
    -- What was released, or whose lease has ended, is anybody's: ready.
    held = held + holder.pending - #ended(key, ARGV[1], holder, ARGV[2], COUNTED)
  end
  note_age(redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1])
end
for _, topic in ipairs(redis.call('SMEMBERS', TOPICS)) do count_topic(topic) end
local age = oldest and math.max(0, now_ms - oldest) or -1
-- Pending entries that somebody deleted are in no stream.
return {math.max(0, length - held), held, redis.call('ZCARD', DELAYED), redis.call('XLEN', DEAD), age}
