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
-- It runs for every call that no block covers, so tables and calls are few: a text becomes a number
-- by + 0.

local OK, FULL, LATCHED, OUTSIDE, AGAIN, STALE = 0, 1, 2, 3, 4, 5
local call, match, format = redis.call, string.match, string.format
local floor, max, min = math.floor, math.max, math.min

local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local gateway, q, want, block = ARGV[1], ARGV[2] + 0, ARGV[3] + 0, ARGV[4] + 0

local at = 4
local windows = {}
for i = 1, #KEYS do
  windows[i] = { start = ARGV[at + 1] + 0, stop = ARGV[at + 2] + 0, g = ARGV[at + 3] + 0 }
  at = at + 3
end

local counters, n = {}, 0
while ARGV[at + 1] do
  local window, name = ARGV[at + 1] + 0, ARGV[at + 2]
  local own = name .. '|' .. gateway
  local found = call('HMGET', KEYS[window], 'g', name, own)
  windows[window].stored = (found[1] or 0) + 0
  local e, used, v, rest, part_e, part_q, part_c = 0, 0, 0, '', 0, 0, 0
  if found[2] then
    e, used, v, rest = match(found[2], '^(%S+) (%S+) (%S+)(.*)')
  end
  if found[3] then
    part_e, part_q, part_c = match(found[3], '^(%S+) (%S+) (%S+)')
    if part_q + 0 >= q then
      return { STALE, 0, 0, 0, now, 0 }
    end
  end
  local lost, latch, grant = match(rest, '(%S+) (%S+) (%S+)')
  n = n + 1
  counters[n] = {
    window = window, name = name, own = own, new = not found[2], changed = false,
    e = e + 0, used = used + 0, v = v + 0, lost = (lost or 0) + 0, latch = (latch or 0) + 0, grant = (grant or 0) + 0,
    part_e = part_e + 0, part_c = part_c + 0,
    limit = ARGV[at + 3] + 0, said_e = ARGV[at + 4] + 0, said_v = ARGV[at + 5] + 0, said_o = ARGV[at + 6] + 0,
    said_cs = ARGV[at + 7] + 0, said_c = ARGV[at + 8] + 0, said_latch = ARGV[at + 9] + 0, raise = ARGV[at + 10] + 0,
  }
  at = at + 10
end

local status, lost = OK, 0
for i, w in ipairs(windows) do
  if not w.stored then -- no counter of it was asked for
    w.stored = (call('HGET', KEYS[i], 'g') or 0) + 0
  end
  w.g = max(w.g, w.stored)
  if now < w.start or now >= w.stop then
    status = OUTSIDE
  end
end

local room, which = nil, 0
for i = 1, n do
  local x = counters[i]
  local e = max(x.e, windows[x.window].g, x.said_e)
  if x.e < e then -- a new generation: the count starts over, an operator's grant stays
    x.e, x.used, x.v, x.lost, x.latch, x.changed = e, 0, 0, 0, 0, true
  end
  if x.part_e ~= e then
    x.part_e, x.part_c = e, 0
  end
  if x.said_e ~= e then -- figures of an older generation say nothing about this one
    x.said_cs, x.said_c, x.said_v, x.said_o, x.said_latch, x.raise = 0, 0, 0, 0, 0, 0
    if status == OK then
      status = AGAIN
    end
  end
  if x.said_cs > x.part_c then -- the owner claims what somebody else had restored
    local claimed = min(x.said_cs - x.part_c, x.lost)
    if claimed > 0 then
      x.lost, x.used, x.changed = x.lost - claimed, x.used - claimed, true
    end
  end
  if x.said_c ~= x.part_c then
    x.used, x.part_c, x.changed = x.used + x.said_c - x.part_c, x.said_c, true
  end
  if x.v < x.said_v then -- older than what this gateway had heard: the writes of others are gone
    local missing = x.said_o - (x.used - x.part_c)
    if missing > 0 then
      x.used, x.lost = x.used + missing, x.lost + missing
    end
    x.v, x.changed, lost = x.said_v, true, 1
  end
  if x.said_latch > x.latch then
    x.latch, x.changed = x.said_latch, true
  end
  if x.raise > x.used then
    x.used, x.changed = x.raise, true
  end
  local left = now < x.latch and 0 or x.limit + x.grant - x.used
  if not room or left < room then
    room, which = left, i
  end
end

local granted, ahead = 0, 0
if status == OK and want > 0 then
  granted = max(0, min(want, room))
  if granted == want then
    ahead = max(0, min(block, floor((room - granted - 1) / 1000)))
  elseif now < counters[which].latch then
    status = LATCHED
  else
    status = FULL
  end
end

local answer = { status, granted, ahead, which, now, lost }
local filled = 6
for i, w in ipairs(windows) do
  filled = filled + 1
  answer[filled] = w.g
  if w.g > w.stored then
    call('HSET', KEYS[i], 'g', format('%.0f', w.g))
    call('EXPIREAT', KEYS[i], format('%.0f', floor(w.stop / 1000) + 86400))
  end
end
for i = 1, n do
  local x = counters[i]
  if x.changed or granted > 0 or want == 0 then
    x.used, x.part_c, x.v = x.used + granted + ahead, x.part_c + granted + ahead, x.v + 1
    local text = format('%.0f %.0f %.0f', x.e, x.used, x.v)
    if x.lost ~= 0 or x.latch ~= 0 or x.grant ~= 0 then
      text = text .. format(' %.0f %.0f %.0f', x.lost, x.latch, x.grant)
    end
    call('HSET', KEYS[x.window], x.name, text, x.own, format('%.0f %.0f %.0f', x.part_e, q, x.part_c))
    if x.new then
      call('EXPIREAT', KEYS[x.window], format('%.0f', floor(windows[x.window].stop / 1000) + 86400))
    end
  end
  answer[filled + 1], answer[filled + 2], answer[filled + 3] = x.e, x.used, x.v
  answer[filled + 4], answer[filled + 5] = x.latch, x.grant
  filled = filled + 5
end
return answer
