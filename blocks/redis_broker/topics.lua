-- Put before the scripts that know of topics. A topic is a stream; each queue that has subscribed to it
-- is a consumer group on it, named as the queue is. A group's position is all that is used of it: what
-- lies behind it waits for the queue, and is nobody's pending entry.

-- The topic's stream; `keys.py` names it likewise.
local function stream_of(topic)
  return topic .. ':topic'
end

-- A reply that is a flat list of names and values, as a table.
local function as_table(flat)
  local named = {}
  for at = 1, #flat, 2 do named[flat[at]] = flat[at + 1] end
  return named
end

local function groups_of(stream)
  local groups, replies = {}, redis.pcall('XINFO', 'GROUPS', stream)
  if replies.err then return groups end
  for nth_group, flat in ipairs(replies) do groups[nth_group] = as_table(flat) end
  return groups
end

local function group_named(groups, name)
  for _, group in ipairs(groups) do
    if group.name == name then return group end
  end
end

-- The fields of a topic's entry as `append` can write them. Of one that has thousands the last are
-- left out: kept back, it would keep back whatever comes after it.
local function movable(fields)
  local MOST = 7800
  if #fields <= MOST then return fields end
  local body, some = get(fields, 'body'), {}
  for at = 1, MOST do some[at] = fields[at] end
  if body then put(some, 'body', body) end
  return some
end

-- Makes the queue's group on a topic. A topic that is remembered, and whose group is missing, was
-- deleted or flushed: all that it holds has come since then.
local function join(stream, queue, from_now_on)
  if not from_now_on or redis.call('EXISTS', stream) == 0 then
    redis.call('XGROUP', 'CREATE', stream, queue, '0', 'MKSTREAM', 'ENTRIESREAD', 0)
  else
    local added = as_table(redis.call('XINFO', 'STREAM', stream))['entries-added']
    redis.call('XGROUP', 'CREATE', stream, queue, '$', 'ENTRIESREAD', added)
  end
end

local function parts_of(id)
  return string.match(id, '^(%d+)-(%d+)$')
end

-- Ids are compared as text: they may be too large for Lua's numbers.
local function less(one, other)
  if #one ~= #other then return #one < #other end
  return one < other
end

local function is_before(id, other)
  local ms, nth_of_ms = parts_of(id)
  local other_ms, other_nth = parts_of(other)
  if ms ~= other_ms then return less(ms, other_ms) end
  return less(nth_of_ms, other_nth)
end

-- The id that comes next; the same one where Lua can't count so far.
local function after(id)
  local ms, nth_of_ms = parts_of(id)
  if #nth_of_ms > 15 then return id end
  return ms .. '-' .. string.format('%d', tonumber(nth_of_ms) + 1)
end

-- Drops what every group has taken and none of them holds pending, as readers of others may.
local function trim(stream)
  local least = nil
  for _, group in ipairs(groups_of(stream)) do
    local bound = after(group['last-delivered-id'])
    if group.pending > 0 then
      local first = redis.call('XPENDING', stream, group.name)[2]
      if is_before(first, bound) then bound = first end
    end
    if not least or is_before(bound, least) then least = bound end
  end
  if least then redis.call('XTRIM', stream, 'MINID', least) end
end
