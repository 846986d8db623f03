-- Creates the group on every band. From 0: what was published before must not be skipped.
-- ARGV: group.
for band = 1, BANDS do
  local made = redis.pcall('XGROUP', 'CREATE', KEYS[band], ARGV[1], '0', 'MKSTREAM')
  if made.err and not string.find(made.err, '^BUSYGROUP') then return made end
end
return redis.status_reply('OK')
