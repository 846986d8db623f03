-- Removes consumers that hold nothing and have not been heard of for a while.
-- A live one that is caught by this is made again by its next read, and has lost nothing.
-- Also drops what all subscribers of the queue's topics have taken, and dead letters beyond a limit.
-- ARGV: group, idle time in ms, for a session that ends its consumer, whatever its idle time, most age
-- of dead letters in ms, and most bytes of them; 0 for any.
-- Returns how many dead letters were dropped.
local max_age, max_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])
-- Of how many pieces of a stream the memory is looked up; of more it is estimated from these.
local SAMPLES = 1000
-- Most that is dropped in one go for its size: it is read before, as only that tells the size.
local DROPS, DROP_BYTES = 10000, 64 * 1024 * 1024

local function drop_larger_than(most)
  local excess = (redis.call('MEMORY', 'USAGE', DEAD, 'SAMPLES', SAMPLES) or 0) - most
  local dropped, bytes, last = 0, 0, nil
  while bytes < excess and bytes < DROP_BYTES and dropped < DROPS do
    local entry = redis.call('XRANGE', DEAD, last and '(' .. last or '-', '+', 'COUNT', 1)[1]
    if not entry then break end
    for _, part in ipairs(entry[2]) do bytes = bytes + #part end
    last, dropped = entry[1], dropped + 1
  end
  if last then redis.call('XTRIM', DEAD, 'MINID', after(last)) end
  return dropped
end

for band = 1, BANDS do
  for _, consumer in ipairs(consumers_of(KEYS[band], ARGV[1])) do
    local stale = consumer.idle >= tonumber(ARGV[2]) or consumer.name == ARGV[3]
    if consumer.pending == 0 and stale then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[band], ARGV[1], consumer.name)
    end
  end
end
for _, topic in ipairs(redis.call('SMEMBERS', TOPICS)) do trim(stream_of(topic)) end
local dropped = 0
if max_age > 0 then
  dropped = redis.call('XTRIM', DEAD, 'MINID', string.format('%d', now_ms - max_age))
end
if max_bytes > 0 then dropped = dropped + drop_larger_than(max_bytes) end
return dropped
