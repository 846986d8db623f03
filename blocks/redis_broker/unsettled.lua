-- Everything that the pending lists say this consumer holds.
-- ARGV: group, consumer. Returns: {{band, entry id, delivery count}, …}.
local held = {}
for band = 1, BANDS do
  local pending = redis.pcall('XPENDING', KEYS[band], ARGV[1], '-', '+', 100000, ARGV[2])
  if not pending.err then
    for _, entry in ipairs(pending) do held[#held + 1] = {band, entry[1], entry[4]} end
  end
end
return held
