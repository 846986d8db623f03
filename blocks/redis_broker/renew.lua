-- ARGV: group, consumer, then each delivery as `<band> <entry id> <delivery count>`.
-- Returns the places of those that are no longer held.
local group, consumer = ARGV[1], ARGV[2]
local lost = {}
for at = 3, #ARGV do
  local band, id, count = string.match(ARGV[at], '^(%d) (%S+) (%d+)$')
  local key, held = KEYS[tonumber(band)], false
  local pending = redis.pcall('XPENDING', key, group, id, id, 1, consumer)
  if not pending.err and pending[1] and pending[1][4] == tonumber(count) then
    -- JUSTID leaves the count alone; an entry that somebody deleted isn't returned.
    held = #redis.call('XCLAIM', key, group, consumer, 0, id, 'IDLE', 0, 'JUSTID') == 1
  end
  if not held then lost[#lost + 1] = at - 3 end
end
return lost
