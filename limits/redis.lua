-- The one script of the counters: state what a gateway holds, then grant.
--
-- KEYS    one hash for each window of one app
-- ARGV    gateway q want block
--         then for each window:   start end generation
--         then for each counter:  window name limit generation version others confirmed held latch raise
-- hash    g                   generation of the whole window
--         <counter>           "generation used version lost latch grant"
--         <counter>|<gateway> "generation q held"
-- answer  status granted block which now lost, a generation for each window,
--         then for each counter: generation used version latch grant
--
-- Times are milliseconds. Numbers are written with %.0f: Lua's own form has an exponent from 1e15.

local OK, FULL, LATCHED, OUTSIDE, AGAIN, STALE = 0, 1, 2, 3, 4, 5

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gateway, q = ARGV[1], tonumber(ARGV[2])
local want, block = tonumber(ARGV[3]), tonumber(ARGV[4])

local at = 4
local windows, counters = {}, {}
for i = 1, #KEYS do
  windows[i] = { start = tonumber(ARGV[at + 1]), stop = tonumber(ARGV[at + 2]), g = tonumber(ARGV[at + 3]) }
  at = at + 3
end

local function figures(text, into, ...)
  local names, i = { ... }, 0
  for figure in string.gmatch(text or '', '%S+') do
    i = i + 1
    into[names[i]] = tonumber(figure)
  end
  return into
end

while at < #ARGV do
  local asked = {
    window = tonumber(ARGV[at + 1]), name = ARGV[at + 2], limit = tonumber(ARGV[at + 3]), e = tonumber(ARGV[at + 4]),
    v = tonumber(ARGV[at + 5]), o = tonumber(ARGV[at + 6]), cs = tonumber(ARGV[at + 7]), c = tonumber(ARGV[at + 8]),
    latch = tonumber(ARGV[at + 9]), raise = tonumber(ARGV[at + 10]),
  }
  at = at + 10
  local w = windows[asked.window]
  local own = asked.name .. '|' .. gateway
  local found = redis.call('HMGET', KEYS[asked.window], 'g', asked.name, own)
  w.stored = tonumber(found[1] or 0)
  local counter = figures(found[2], { e = 0, used = 0, v = 0, lost = 0, latch = 0, grant = 0 }, 'e', 'used', 'v', 'lost', 'latch', 'grant')
  local part = figures(found[3], { e = 0, q = 0, c = 0 }, 'e', 'q', 'c')
  if part.q >= q then
    return { STALE, 0, 0, 0, now, 0 }
  end
  counters[#counters + 1] = { asked = asked, own = own, counter = counter, part = part, new = not found[2] }
end

local status, lost = OK, 0
for i, w in ipairs(windows) do
  if not w.stored then -- no counter of it was asked for
    w.stored = tonumber(redis.call('HGET', KEYS[i], 'g') or 0)
  end
  w.g = math.max(w.g, w.stored)
  if now < w.start or now >= w.stop then
    status = OUTSIDE
  end
end

local room, which = nil, 0
for i, x in ipairs(counters) do
  local a, c, part = x.asked, x.counter, x.part
  local e = math.max(c.e, windows[a.window].g, a.e)
  if c.e < e then -- a new generation: the count starts over, an operator's grant stays
    c.e, c.used, c.v, c.lost, c.latch, x.changed = e, 0, 0, 0, 0, true
  end
  if part.e ~= e then
    part.e, part.c = e, 0
  end
  if a.e ~= e then -- figures of an older generation say nothing about this one
    a.cs, a.c, a.v, a.o, a.latch, a.raise = 0, 0, 0, 0, 0, 0
    if status == OK then
      status = AGAIN
    end
  end
  if a.cs > part.c then -- the owner claims what somebody else had restored
    local claimed = math.min(a.cs - part.c, c.lost)
    if claimed > 0 then
      c.lost, c.used, x.changed = c.lost - claimed, c.used - claimed, true
    end
  end
  if a.c ~= part.c then
    c.used, part.c, x.changed = c.used + a.c - part.c, a.c, true
  end
  if c.v < a.v then -- older than what this gateway had heard: the writes of others are gone
    local missing = a.o - (c.used - part.c)
    if missing > 0 then
      c.used, c.lost = c.used + missing, c.lost + missing
    end
    c.v, x.changed, lost = a.v, true, 1
  end
  if a.latch > c.latch then
    c.latch, x.changed = a.latch, true
  end
  if a.raise > c.used then
    c.used, x.changed = a.raise, true
  end
  local left = now < c.latch and 0 or a.limit + c.grant - c.used
  if not room or left < room then
    room, which = left, i
  end
end

local granted, ahead = 0, 0
if status == OK and want > 0 then
  granted = math.max(0, math.min(want, room))
  if granted == want then
    ahead = math.max(0, math.min(block, math.floor((room - granted - 1) / 1000)))
  elseif now < counters[which].counter.latch then
    status = LATCHED
  else
    status = FULL
  end
end

local answer = { status, granted, ahead, which, now, lost }
for i, w in ipairs(windows) do
  answer[#answer + 1] = w.g
  if w.g > w.stored then
    redis.call('HSET', KEYS[i], 'g', string.format('%.0f', w.g))
    redis.call('EXPIREAT', KEYS[i], string.format('%.0f', math.floor(w.stop / 1000) + 86400))
  end
end
for _, x in ipairs(counters) do
  local a, c, part = x.asked, x.counter, x.part
  if x.changed or granted > 0 or want == 0 then
    c.used, part.c, c.v = c.used + granted + ahead, part.c + granted + ahead, c.v + 1
    local text = string.format('%.0f %.0f %.0f', c.e, c.used, c.v)
    if c.lost ~= 0 or c.latch ~= 0 or c.grant ~= 0 then
      text = text .. string.format(' %.0f %.0f %.0f', c.lost, c.latch, c.grant)
    end
    redis.call('HSET', KEYS[a.window], a.name, text, x.own, string.format('%.0f %.0f %.0f', part.e, q, part.c))
    if x.new then
      redis.call('EXPIREAT', KEYS[a.window], string.format('%.0f', math.floor(windows[a.window].stop / 1000) + 86400))
    end
  end
  for _, figure in ipairs({ c.e, c.used, c.v, c.latch, c.grant }) do
    answer[#answer + 1] = figure
  end
end
return answer
