-- The one script of the counters: a gateway reports its own totals, the store applies the
-- differences, and grants. It is the rule of ledger.go with Redis around it.
--
-- KEYS    one hash for each window of one app
-- ARGV    gateway q want block
--         then for each window:   start end generation
--         then for each counter:  window name limit generation version others acked local until at raise;
--         a limit under 0 is another caller's reserve, kept back of the first counter of the window
--         then for each grant:    0 counter calls until at over
-- hash    |g                  generation of the whole window
--         <counter>           "generation used version[ lost until grant[ at]]", until and at of the latch,
--                             grant the calls of the grant in force
--         |+<counter>         its grant: "calls until at". It is read where grant is not 0
--         <counter>|<gateway> "generation q local"
-- answer  status granted block which now lost damaged, a generation for each window,
--         then for each counter: generation used version until at
--         then for each grant:   counter calls until at
--
-- Times are milliseconds. Numbers are written with %.0f: Lua's own form has an exponent from 1e15. A
-- field is only read if it is what this script writes: whole numbers under 1e15, and no time later
-- than a day after its window. What else is found there is damaged, and replaced.
--
-- It runs for every call that no block covers, so tables and calls are few: a text becomes a number
-- by + 0.

local OK, FULL, LATCHED, OUTSIDE, AGAIN, STALE = 0, 1, 2, 3, 4, 5
local HUGE, DAY = 1e15, 86400000
local PART = '^(%d+) (%d+) (%d+)$'
local call, match, sub, format = redis.call, string.match, string.sub, string.format
local floor, max, min = math.floor, math.max, math.min

local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local gateway, q, want, block = ARGV[1], ARGV[2] + 0, ARGV[3] + 0, ARGV[4] + 0

local at = 4
local windows = {}
for i = 1, #KEYS do
  local stop = ARGV[at + 2] + 0
  windows[i] = { start = ARGV[at + 1] + 0, stop = stop, last = stop + DAY, g = ARGV[at + 3] + 0, read = false, stored = false, old = false }
  at = at + 3
end

local counters, n, damaged = {}, 0, 0
while ARGV[at + 1] do
  local window, name = ARGV[at + 1] + 0, ARGV[at + 2]
  if window == 0 then -- a grant
    break
  end
  local key, w, own = KEYS[window], windows[window], name .. '|' .. gateway
  local last, found = w.last, nil
  if w.read then
    found = call('HMGET', key, name, own)
  else
    found = call('HMGET', key, name, own, '|g', 'g')
    w.read, w.stored, w.old = true, found[3], found[4]
  end
  n = n + 1

  local part_e, part_q, part_c = 0, 0, 0
  if found[2] then
    local stored_e, stored_q, stored_c = match(found[2], PART)
    if stored_e then
      part_e, part_q, part_c = stored_e + 0, stored_q + 0, stored_c + 0
      if part_e > last or part_q >= HUGE or part_c >= HUGE then
        part_e, part_q, part_c = 0, 0, 0
      elseif part_q >= q then
        return { STALE, 0, 0, 0, now, 0, 0 }
      end
    end
  end

  local text, changed = found[1], false
  if name == 'g' and text and match(text, '^%d+$') then
    text = false -- the window's generation, as older gateways wrote it
  end
  local e, used, v, lost, till, grant, latched_at = 0, 0, 0, 0, 0, 0, 0
  if text then
    local rest, tail
    e, used, v, rest = match(text, '^(%d+) (%d+) (%d+)(.*)$')
    if e then
      e, used, v = e + 0, used + 0, v + 0
      changed = e > last or used >= HUGE or v >= HUGE
    else
      changed = true
    end
    if rest and rest ~= '' then
      lost, till, grant, tail = match(rest, '^ (%d+) (%d+) (%d+)(.*)$')
      latched_at = tail == '' and 0 or tail and match(tail, '^ (%d+)$')
      if latched_at then
        lost, till, grant, latched_at = lost + 0, till + 0, grant + 0, latched_at + 0
        changed = changed or lost >= HUGE or till > last or grant >= HUGE or latched_at > last
      else
        changed = true
      end
    end
  elseif found[2] then
    changed = true -- both are always written together
  end
  if changed then -- damaged: what the parts have is known; the rest the gateways restore, as after any loss
    damaged = n
    e, used, v, lost, till, grant, latched_at = 0, 0, 0, 0, 0, 0, 0
    local fields, prefix = call('HGETALL', key), name .. '|'
    for i = 1, #fields, 2 do
      local other_e, other_q, other_c = match(fields[i + 1], PART)
      if sub(fields[i], 1, #prefix) == prefix and other_e
        and other_e + 0 <= last and other_q + 0 < HUGE and other_c + 0 < HUGE then
        if other_e + 0 > e then
          e, used = other_e + 0, 0
        end
        if other_e + 0 == e then
          used = used + other_c
        end
      end
    end
  end

  counters[n] = {
    window = window, name = name, own = own, new = not text, changed = changed,
    e = e, used = used, v = v, lost = lost, till = till, grant = grant, latched_at = latched_at,
    part_e = part_e, part_c = part_c,
    limit = ARGV[at + 3] + 0, said_e = ARGV[at + 4] + 0, said_v = ARGV[at + 5] + 0, others = ARGV[at + 6] + 0,
    acked = ARGV[at + 7] + 0, loc = ARGV[at + 8] + 0, said_till = ARGV[at + 9] + 0, said_at = ARGV[at + 10] + 0,
    raise = ARGV[at + 11] + 0,
  }
  at = at + 11
end

local said
while ARGV[at + 1] do
  said = said or {}
  said[ARGV[at + 2] + 0] = { calls = ARGV[at + 3] + 0, till = ARGV[at + 4] + 0, at = ARGV[at + 5] + 0, over = ARGV[at + 6] + 0 }
  at = at + 6
end

-- find_grant looks up the grant of a counter, and puts the one that was said in its place if that is later.
local function find_grant(x, said)
  local key, field, w = KEYS[x.window], '|+' .. x.name, windows[x.window]
  local text = call('HMGET', key, field)[1]
  local calls, till, set = match(text or '', PART)
  if calls and calls + 0 < HUGE and till + 0 <= w.last and set + 0 <= w.last then
    calls, till, set = calls + 0, till + 0, set + 0
  else
    calls, till, set = x.grant, x.grant ~= 0 and w.stop or 0, 0
  end
  if said and set <= said.over and (said.at > set or said.at == set
    and (said.calls > calls or said.calls == calls and said.till > till)) then
    calls, till, set, x.changed = said.calls, said.till, said.at, true
    call('HSET', key, field, format('%.0f %.0f %.0f', calls, till, set))
  end
  local grant = now < till and calls or 0
  if grant ~= x.grant then
    x.grant, x.changed = grant, true
  end
  if calls ~= 0 or set ~= 0 then
    x.found = { calls, till, set }
  end
end

local PART, COUNT = 1, 2 -- what is lost: the gateway's own part, or the counts of others
local status, lost = OK, 0
for i, w in ipairs(windows) do
  if not w.read then -- no counter of it was asked for
    local found = call('HMGET', KEYS[i], '|g', 'g')
    w.stored, w.old = found[1], found[2]
  end
  local stored, old = w.stored, w.old
  w.stored = 0
  if stored then
    w.stored = match(stored, '^%d+$') and stored + 0 <= w.last and stored + 0 or -1
  end
  w.g = max(w.g, w.stored)
  if old and match(old, '^%d+$') and old + 0 <= w.last then -- the field's name until 2026-12
    w.g = max(w.g, old + 0)
  end
  if now < w.start or now >= w.stop then
    status = OUTSIDE
  end
end

local room, which = 0, 0
local kept -- of each window
for i = 1, n do
  local x = counters[i]
  if x.grant ~= 0 or x.changed or said and said[i] then -- a damaged counter may have one
    find_grant(x, said and said[i])
  end
  local e = max(x.e, windows[x.window].g, x.said_e)
  if x.e < e then -- a new generation: the count starts over, an operator's grant stays
    x.e, x.used, x.v, x.lost, x.till, x.latched_at, x.changed = e, 0, 0, 0, 0, 0, true
    if x.said_e == e then
      x.used = x.raise -- the count that WeChat began the generation with belongs to no gateway
    end
  end
  if x.part_e ~= e then
    x.part_e, x.part_c = e, 0
  end
  if x.said_e ~= e then -- figures of an older generation mean nothing in this one
    x.acked, x.loc, x.said_v, x.others, x.said_till, x.said_at, x.raise = 0, 0, 0, 0, 0, 0, 0
    if status == OK then
      status = AGAIN
    end
  end
  if x.acked > x.part_c then -- the owner claims what another gateway has restored
    lost = max(lost, PART)
    local claimed = min(x.acked - x.part_c, x.lost)
    if claimed > 0 then
      x.lost, x.used, x.changed = x.lost - claimed, x.used - claimed, true
    end
  end
  if x.loc ~= x.part_c then
    x.used, x.part_c, x.changed = x.used + x.loc - x.part_c, x.loc, true
  end
  if x.v < x.said_v then -- older than the report: the writes of others are lost
    local missing = x.others - (x.used - x.part_c)
    if missing > 0 then
      x.used, x.lost = x.used + missing, x.lost + missing
    end
    x.v, x.changed, lost = x.said_v, true, COUNT
  end
  if x.said_at > x.latched_at then
    if x.said_till > 0 then -- a later latch ends no sooner
      x.said_till = max(x.said_till, x.till)
    end
    x.till, x.latched_at, x.changed = x.said_till, x.said_at, true
  elseif x.said_at == x.latched_at and x.said_till > x.till then
    x.till, x.changed = x.said_till, true
  end
  if x.raise > x.used then
    x.used, x.changed = x.raise, true
  end
  if x.limit < 0 then
    kept = kept or {}
    kept[x.window] = (kept[x.window] or 0) + max(0, -x.limit - x.used)
  else
    x.left = now < x.till and 0 or x.limit + x.grant - x.used
    if i == 1 or x.left < room then
      room, which = x.left, i
    end
  end
end
if kept then
  for i = 1, n do
    local x = counters[i]
    if x.left then
      if kept[x.window] and now >= x.till then
        x.left = x.left - kept[x.window]
      end
      kept[x.window] = nil
      if i == 1 or x.left < room then
        room, which = x.left, i
      end
    end
  end
end

local granted, ahead = 0, 0
if status == OK and want > 0 and n > 0 then
  granted = max(0, min(want, room))
  if granted == want then
    ahead = max(0, min(block, floor((room - granted - 1) / 1000)))
  elseif now < counters[which].till then
    status = LATCHED
  else
    status = FULL
  end
end

local answer = { status, granted, ahead, which, now, lost, damaged }
local filled = 7
for i, w in ipairs(windows) do
  filled = filled + 1
  answer[filled] = w.g
  if w.g > w.stored then
    call('HSET', KEYS[i], '|g', format('%.0f', w.g))
    call('EXPIREAT', KEYS[i], format('%.0f', floor(w.stop / 1000) + 86400))
  end
end
for i = 1, n do
  local x = counters[i]
  local counted = x.left and granted + ahead or 0
  if x.changed or counted > 0 or want == 0 then
    x.used, x.part_c, x.v = x.used + counted, x.part_c + counted, x.v + 1
    local text = format('%.0f %.0f %.0f', x.e, x.used, x.v)
    if x.latched_at ~= 0 or x.lost ~= 0 or x.till ~= 0 or x.grant ~= 0 then
      text = text .. format(' %.0f %.0f %.0f %.0f', x.lost, x.till, x.grant, x.latched_at)
    end
    call('HSET', KEYS[x.window], x.name, text, x.own, format('%.0f %.0f %.0f', x.part_e, q, x.part_c))
    if x.new then
      call('EXPIREAT', KEYS[x.window], format('%.0f', floor(windows[x.window].stop / 1000) + 86400))
    end
  end
  answer[filled + 1], answer[filled + 2], answer[filled + 3] = x.e, x.used, x.v
  answer[filled + 4], answer[filled + 5] = x.till, x.latched_at
  filled = filled + 5
end
for i = 1, n do
  local found = counters[i].found
  if found then
    answer[filled + 1], answer[filled + 2], answer[filled + 3], answer[filled + 4] = i, found[1], found[2], found[3]
    filled = filled + 4
  end
end
return answer
