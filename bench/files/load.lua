-- The load: calls made before the clock runs, sent in turn. Arguments: mode, apps.
local small, large = "@SMALL@", "@LARGE@"
local requests, i, n = {}, 0, 0

local headers = { ["User-Agent"] = "okhttp/4.9.0", ["Accept"] = "*/*" }
local typed = { ["User-Agent"] = "okhttp/4.9.0", ["Accept"] = "*/*", ["Content-Type"] = "application/json" }
local query = "?openid=o6_bmjrPTlm6_2sgVt7hMZOPfL2M&lang=zh_CN"

local function add(path, body)
  n = n + 1
  if body then
    requests[n] = wrk.format("POST", path .. query, typed, body)
  else
    requests[n] = wrk.format("GET", path .. query, headers)
  end
end

function init(args)
  local mode, apps = args[1], tonumber(args[2])
  if mode == "many" then -- of more counters than there are calls, so made as they go
    request = function()
      i = i + 1
      local app, c = math.random(0, apps - 1), math.random(0, 19)
      local path = string.format("/wx%016x/cgi-bin/bench/c%02d%s", app, c, query)
      if i % 4 == 0 then
        return wrk.format("POST", path, typed, small)
      end
      return wrk.format("GET", path, headers)
    end
    return
  end
  for app = 0, apps - 1 do
    local base = "/cgi-bin/bench/"
    if apps > 1 then
      base = string.format("/wx%016x", app) .. base
    end
    if mode == "hot" then
      add(base .. "c00")
    elseif mode == "up" then
      add(base .. "media", string.rep("m", 1048576))
    elseif mode == "down" then
      add(base .. "media")
    else
      for c = 0, 63 do
        local path = string.format("%sc%02d", base, c)
        for again = 1, mode == "eight" and 8 or 1 do -- calls that come together ask for one counter
          if mode == "post2k" then
            add(path, large)
          else
            add(path, (c + again) % 4 == 0 and small or nil)
          end
        end
      end
    end
  end
end

function request()
  i = i % n + 1
  return requests[i]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format('\nRESULT {"Calls":%d,"Micros":%d,"Bytes":%d,"Failed":%d,"P50":%d,"P99":%d,"Max":%d}\n',
    summary.requests, summary.duration, summary.bytes, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99), latency.max))
end
