-- The next dead letters. ARGV: the entry id after which to go on, most letters, most bytes.
-- Returns: {{entry id, fields}, …}.
local after, most, budget = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local page = {}
while #page < most and budget > 0 do
  local entry = redis.call('XRANGE', DEAD, '(' .. after, '+', 'COUNT', 1)[1]
  if not entry then break end
  page[#page + 1] = entry
  after = entry[1]
  for _, part in ipairs(entry[2]) do budget = budget - #part end
end
return page
