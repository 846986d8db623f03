-- Removes consumers that hold nothing and have not been heard of for a while.
-- A live one that is caught by this is made again by its next read, and has lost nothing.
-- Also drops what all subscribers of the queue's topics have taken.
-- ARGV: group, idle time in ms, and for a session that ends its consumer, whatever its idle time.
for band = 1, BANDS do
  for _, consumer in ipairs(consumers_of(KEYS[band], ARGV[1])) do
    local stale = consumer.idle >= tonumber(ARGV[2]) or consumer.name == ARGV[3]
    if consumer.pending == 0 and stale then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[band], ARGV[1], consumer.name)
    end
  end
end
for _, topic in ipairs(redis.call('SMEMBERS', TOPICS)) do trim(stream_of(topic)) end
return redis.status_reply('OK')
