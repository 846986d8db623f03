-- Subscribes the queue to a topic, from now on. ARGV: queue, topic.
local queue, topic = ARGV[1], ARGV[2]
local stream = stream_of(topic)
local is_new = redis.call('SADD', TOPICS, topic) == 1
if not group_named(groups_of(stream), queue) then join(stream, queue, is_new) end
return redis.status_reply('OK')
