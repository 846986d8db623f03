-- Adds messages to a topic that somebody has subscribed to; without a subscriber, keeps nothing.
-- ARGV: for each message its delay in ms, number of field arguments, and those.
local stream = KEYS[1]
if #groups_of(stream) == 0 then return redis.status_reply('OK') end
local at = 1
while at <= #ARGV do
  local delay, width = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local fields = arguments(at + 2, width)
  if delay > 0 then put(fields, 'due', string.format('%d', now_ms + delay)) end
  local problem = append(stream, fields)
  if problem then return problem end
  at = at + 2 + width
end
return redis.status_reply('OK')
