-- ARGV: for each dead letter its handle, and 0 to discard it; or its handle, the number of field
-- arguments, band, delay in ms, and those fields, to publish them in its place.
-- Returns the handles that were there.
local found, at = {}, 1
while at <= #ARGV do
  local handle, width = ARGV[at], tonumber(ARGV[at + 1])
  if #redis.call('XRANGE', DEAD, handle, handle) == 1 then
    if width > 0 then
      local band, delay = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
      local problem = enqueue(band, delay, arguments(at + 4, width))
      if problem then return problem end
    end
    redis.call('XDEL', DEAD, handle)
    found[#found + 1] = handle
  end
  at = at + (width > 0 and 4 + width or 2)
end
return found
