-- Put before every script. An entry's fields are a flat list, name after value, as Redis holds them.
-- KEYS are always: the three bands from high to low, the delayed set, the dead letters, the set of
-- topics that the queue has subscribed to, the rate limit's clock; or a topic's stream alone.
local DELAYED, DEAD, TOPICS, RATE = KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local BANDS = 3
-- Nobody's consumer: holds what was given back until the next reader claims it.
local RELEASED = 'released'

local clock = redis.call('TIME')
local now_us = clock[1] * 1000000 + clock[2]
local now_ms = math.floor(now_us / 1000)

local function get(fields, name)
  for at = 1, #fields, 2 do
    if fields[at] == name then return fields[at + 1], at + 1 end
  end
end

local function put(fields, name, value)
  local _, at = get(fields, name)
  if at then
    fields[at] = value
  else
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
end

local function put_if_absent(fields, name, value)
  if not get(fields, name) then put(fields, name, value) end
end

-- Takes a field out; returns its value, or nil.
local function remove(fields, name)
  local value, at = get(fields, name)
  if not at then return nil end
  table.remove(fields, at)
  table.remove(fields, at - 1)
  return value
end

-- Adds an entry to a stream; returns nil, or the error for which nothing was written.
local function append(key, fields)
  local command = {'XADD', key, '*'}
  for at = 1, #fields do command[at + 3] = fields[at] end
  -- Lua can't pass more than some 8,000 arguments.
  if #command > 7900 then return {err = 'ERR the entry has too many fields to be moved'} end
  local added = redis.pcall(unpack(command))
  if type(added) == 'table' then return added end
end

-- Digits before the packed message in a member of the delayed set.
local STAMP = 22
local nth = 0
-- Adds a message to its band, or to the delayed ones; returns nil or an error, as `append` does.
local function enqueue(band, delay_ms, fields)
  if delay_ms <= 0 then return append(KEYS[band], fields) end
  put_if_absent(fields, 'published', string.format('%d', now_ms))
  -- The stamp keeps members of one due time in the order in which they came, and apart.
  nth = nth + 1
  local member = string.format('%016d%06d', now_us, nth) .. cmsgpack.pack({band, fields})
  local added = redis.pcall('ZADD', DELAYED, now_ms + delay_ms, member)
  if type(added) == 'table' then return added end
end

-- `width` arguments from `first` on.
local function arguments(first, width)
  local values = {}
  for offset = 1, width do values[offset] = ARGV[first + offset - 1] end
  return values
end

-- A consumer's name ends with its lease in ms, since the lease is the holder's, not the claimer's;
-- a foreign name has the lease that is given.
local function lease_of(consumer, default)
  if consumer == RELEASED then return 0 end
  return tonumber(string.match(consumer, ':(%d+)$')) or tonumber(default)
end

-- The consumers of a band as tables with name, pending, idle; none where there is no group.
local function consumers_of(key, group)
  local consumers, replies = {}, redis.pcall('XINFO', 'CONSUMERS', key, group)
  if replies.err then return consumers end
  for nth_consumer, flat in ipairs(replies) do
    local consumer = {}
    for at = 1, #flat, 2 do consumer[flat[at]] = flat[at + 1] end
    consumers[nth_consumer] = consumer
  end
  return consumers
end

-- Pending entries of one consumer whose lease has ended, as rows of XPENDING, oldest first.
local function ended(key, group, consumer, default_lease, most)
  if consumer.pending == 0 then return {} end
  local lease = lease_of(consumer.name, default_lease)
  return redis.call('XPENDING', key, group, 'IDLE', lease, '-', '+', most, consumer.name)
end
