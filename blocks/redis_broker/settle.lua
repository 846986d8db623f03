-- ARGV: group, consumer, then for each delivery `<verdict> <band> <entry id> <delivery count>`;
-- after a retry or release the delay in ms; after dead the reason, error, error type, run id.
-- Returns for each delivery that could not be settled its place, and 1 where it is no longer held, or
-- the text of an error.
local group, consumer = ARGV[1], ARGV[2]
local LOST = 1
-- What keys.py and entry.py say of an entry that says nothing itself.
local DEFAULT_PRIORITY, ID_PREFIX = {'1', '4', '8'}, {'high-', '', 'low-'}

local function bury(band, fields, why)
  put_if_absent(fields, 'priority', DEFAULT_PRIORITY[band])
  put(fields, 'dead:reason', why[1])
  put(fields, 'dead:error', why[2])
  put(fields, 'dead:error_type', why[3])
  put(fields, 'dead:run_id', why[4])
  return append(DEAD, fields)
end

-- The entry's fields, with what the entry id and the pending list say about it written into them.
local function carry(band, id, fields, deliveries)
  put_if_absent(fields, 'id', ID_PREFIX[band] .. id)
  put_if_absent(fields, 'published', string.match(id, '^%d+'))
  -- Read as strictly as `entry.py` does, since anybody may have written it.
  local before = string.match(get(fields, 'deliveries') or '', '^%d%d?%d?%d?%d?%d?%d?%d?%d?$')
  put(fields, 'deliveries', string.format('%d', (before or 0) + deliveries))
end

local function give_back(band, id, count)
  -- Stays at its place, and the next claim counts up to the same number again.
  redis.call(
    'XCLAIM', KEYS[band], group, RELEASED, 0, id, 'RETRYCOUNT', count - 1, 'JUSTID')
end

local function leave(verdict, band, id, count, details)
  local entry = redis.call('XRANGE', KEYS[band], id, id)[1]
  if not entry then
    -- Somebody deleted it; nothing can be done with it any more.
    redis.call('XACK', KEYS[band], group, id)
    return LOST
  end
  local fields, problem = entry[2], nil
  if verdict == 'dead' then
    carry(band, id, fields, count)
    problem = bury(band, fields, details)
  else
    carry(band, id, fields, verdict == 'retry' and count or count - 1)
    problem = enqueue(band, tonumber(details[1]), fields)
  end
  return problem and problem.err
end

-- Returns nil, or what is wrong.
local function settle(verdict, band, id, count, details)
  local key = KEYS[band]
  local pending = redis.pcall('XPENDING', key, group, id, id, 1, consumer)
  if pending.err then
    return string.find(pending.err, '^NOGROUP') and LOST or pending.err
  end
  -- The count tells this delivery from a later one to the same consumer.
  if not pending[1] or pending[1][4] ~= count then return LOST end
  if verdict == 'release' and details[1] == '0' then return give_back(band, id, count) end
  if verdict ~= 'done' then
    -- Added elsewhere before it is removed here: an error in between leaves it where it was.
    local problem = leave(verdict, band, id, count, details)
    if problem then return problem end
  end
  redis.call('XACK', key, group, id)
  redis.call('XDEL', key, id)
end

local DETAILS = {done = 0, retry = 1, release = 1, dead = 4}
local problems, at, place = {}, 3, 0
while at <= #ARGV do
  local verdict, band, id, count = string.match(ARGV[at], '^(%a+) (%d) (%S+) (%d+)$')
  local width = DETAILS[verdict]
  local problem = settle(
    verdict, tonumber(band), id, tonumber(count), arguments(at + 1, width))
  if problem then
    problems[#problems + 1] = place
    problems[#problems + 1] = problem
  end
  at, place = at + 1 + width, place + 1
end
return problems
