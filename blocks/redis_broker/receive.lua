-- Takes what may be taken now: ended leases first, then due and ready messages, highest band first.
-- ARGV: group, consumer, lease of foreign consumers in ms, most messages, most bytes, lowest band,
-- whether to look at everybody's leases (1) or only at what was released (0), queue, µs between two
-- deliveries or 0 for no limit, most deliveries in one burst.
-- Returns: ms until more may be there or -1, the shape, the content, what to watch.
-- The content is all entry ids and fields in one string, and the shape says in numbers how to cut it:
-- for each entry its band, its delivery count, the number of its parts, and the length of each (id,
-- name, value, name, …). Clients parse that in a tenth of the time that they need for nested lists.
-- What to watch, where nothing was there and a blocking read might not take it: streams, each with the
-- id after which an entry is news.
local group, consumer, default_lease = ARGV[1], ARGV[2], ARGV[3]
local most, budget = tonumber(ARGV[4]), tonumber(ARGV[5])
local lowest, everybody, queue = tonumber(ARGV[6]), ARGV[7] == '1', ARGV[8]
-- Messages that become ready in one go, and how many bytes of them.
local MOVES, move_budget = 200, budget
-- Rows of a pending list looked at in one go.
local ROWS = 25
local interval, burst = tonumber(ARGV[9]), tonumber(ARGV[10])
local taken, shape, content = 0, {}, {}

-- The rate limit is a generic cell rate algorithm: every delivery moves a mark on by the interval, and
-- may do so until now. It lags behind by a burst at most; the clock may have been set back.
local mark, was_ahead = nil, false
if interval > 0 then
  mark = math.max(tonumber(redis.call('GET', RATE) or '') or 0, now_us - burst * interval)
  was_ahead = mark > now_us
  mark = math.min(mark, now_us)
  most = math.min(most, math.floor((now_us - mark) / interval))
end
local exhausted = most == 0

local function move_mark()
  if not mark or (taken == 0 and not was_ahead) then return end
  mark = mark + taken * interval
  local lifetime = math.ceil(burst * interval / 1000) + 1
  redis.call('SET', RATE, string.format('%d', mark), 'PX', string.format('%d', lifetime))
end

local function add_part(part)
  shape[#shape + 1] = #part
  content[#content + 1] = part
  budget = budget - #part
end

local function take(band, count, entry)
  taken = taken + 1
  shape[#shape + 1] = band
  shape[#shape + 1] = count
  shape[#shape + 1] = #entry[2] + 1
  add_part(entry[1])
  for _, part in ipairs(entry[2]) do add_part(part) end
end

local function has_room()
  return taken < most and budget > 0
end

local function claim(band, row)
  -- Counts the delivery; of an entry that somebody deleted it returns nothing.
  local entry = redis.call('XCLAIM', KEYS[band], group, consumer, 0, row[1])[1]
  if entry then
    take(band, row[4] + 1, entry)
  else
    redis.call('XACK', KEYS[band], group, row[1])
  end
end

local function claim_from(band, holder)
  while has_room() do
    local rows = ended(KEYS[band], group, holder, default_lease, ROWS)
    if #rows == 0 then return end
    for _, row in ipairs(rows) do
      if has_room() then claim(band, row) end
    end
  end
end

local function claim_ended_leases(band)
  claim_from(band, {name = RELEASED})
  if not everybody then return end
  for _, holder in ipairs(consumers_of(KEYS[band], group)) do claim_from(band, holder) end
end

-- What `enqueue` wrote: band and fields. Anything else is taken for the body of a message.
local function unpack_delayed(member)
  if string.match(member, '^%d+') and #string.match(member, '^%d+') >= STAMP then
    local good, message = pcall(cmsgpack.unpack, string.sub(member, STAMP + 1))
    if good and type(message) == 'table' and KEYS[message[1]] and type(message[2]) == 'table' then
      return message[1], message[2]
    end
  end
  return 2, {'body', member}
end

local function move_due()
  local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', now_ms, 'LIMIT', 0, MOVES)
  for _, member in ipairs(due) do
    local band, fields = unpack_delayed(member)
    -- Out of memory, say: what can't be moved now stays where it is.
    if append(KEYS[band], fields) then return end
    redis.call('ZREM', DELAYED, member)
  end
end

-- Which band a message of a topic belongs to; anybody may have written it.
local function band_of(fields)
  local priority = tonumber(string.match(get(fields, 'priority') or '', '^%d$'))
  if not priority then return 2 end
  return priority <= 2 and 1 or priority <= 6 and 2 or 3
end

local function move_from_topic(topic, entry)
  local fields = movable(entry[2])
  put_if_absent(fields, 'id', topic .. '-' .. entry[1])
  put_if_absent(fields, 'published', string.match(entry[1], '^%d+'))
  local due = string.match(remove(fields, 'due') or '', '^%d+$')
  for _, part in ipairs(fields) do move_budget = move_budget - #part end
  return enqueue(band_of(fields), due and tonumber(due) - now_ms or 0, fields)
end

-- Moves what is new in a topic, and returns how far it came.
local function move_topic(topic)
  local stream, moved = stream_of(topic), 0
  local mine = group_named(groups_of(stream), queue)
  if not mine then
    join(stream, queue)
    mine = {['last-delivered-id'] = '0-0', ['entries-read'] = 0}
  end
  local position = mine['last-delivered-id']
  while moved < MOVES and move_budget > 0 do
    -- One at a time, as a body may be large.
    local entry = redis.call('XRANGE', stream, '(' .. position, '+', 'COUNT', 1)[1]
    if not entry or move_from_topic(topic, entry) then break end
    position, moved = entry[1], moved + 1
  end
  if moved > 0 then
    local read = mine['entries-read']
    local count = read and {'ENTRIESREAD', string.format('%d', read + moved)} or {}
    redis.call('XGROUP', 'SETID', stream, queue, position, unpack(count))
    trim(stream)
  end
  return {stream, position}
end

local function news(positions)
  local watch = {}
  local may_block = interval == 0 and #positions == 0
  if taken > 0 or exhausted or may_block then return watch end
  for band = 1, lowest do
    local mine = group_named(groups_of(KEYS[band]), group)
    positions[#positions + 1] = {KEYS[band], mine['last-delivered-id']}
  end
  for _, position in ipairs(positions) do
    watch[#watch + 1] = position[1]
    watch[#watch + 1] = position[2]
  end
  return watch
end

local function read_ready(band)
  -- One at a time: how large an entry is shows only once it has been taken.
  while has_room() do
    local reply = redis.call(
      'XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', KEYS[band], '>')
    if not reply then return end
    take(band, 1, reply[1][2][1])
  end
end

-- Raises NOGROUP for a missing band before anything has been taken.
local pending = {}
for band = 1, BANDS do pending[band] = redis.call('XPENDING', KEYS[band], group)[1] end
local positions = {}
for nth_topic, topic in ipairs(redis.call('SMEMBERS', TOPICS)) do
  positions[nth_topic] = move_topic(topic)
end
for band = 1, lowest do
  if pending[band] > 0 then claim_ended_leases(band) end
end
move_due()
for band = 1, lowest do read_ready(band) end

local first = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
local due_in = -1
if first[2] then due_in = math.max(0, tonumber(first[2]) - now_ms) end
move_mark()
if exhausted then due_in = math.ceil((mark + interval - now_us) / 1000) end
return {due_in, table.concat(shape, ' '), table.concat(content), news(positions)}
