-- ARGV: for each message its band, delay in ms, number of field arguments, and those.
local at = 1
while at <= #ARGV do
  local width = tonumber(ARGV[at + 2])
  local problem = enqueue(tonumber(ARGV[at]), tonumber(ARGV[at + 1]), arguments(at + 3, width))
  if problem then return problem end
  at = at + 3 + width
end
return redis.status_reply('OK')
