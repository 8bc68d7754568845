-- One counter a day for each path, in Redis: read and raised by one script, so that it never passes
-- its quota. The few lines of RESP that this needs are here, because Debian 12 has no lua-resty-redis.
local M = {}

local script = [[
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
if used >= tonumber(ARGV[1]) then return -1 end
used = redis.call('INCR', KEYS[1])
if used == 1 then redis.call('EXPIRE', KEYS[1], 172800) end
return used]]
local sha

local function command(sock, ...)
  local parts = { "*", select("#", ...), "\r\n" }
  for i = 1, select("#", ...) do
    local arg = tostring((select(i, ...)))
    parts[#parts + 1] = "$" .. #arg .. "\r\n" .. arg .. "\r\n"
  end
  local _, err = sock:send(parts)
  if err then return nil, err end
  local line
  line, err = sock:receive()
  if not line then return nil, err end
  local kind, rest = line:sub(1, 1), line:sub(2)
  if kind == "$" then
    local data = sock:receive(tonumber(rest))
    sock:receive(2)
    return data
  elseif kind == "-" then
    return nil, rest
  end
  return tonumber(rest) or rest
end

function M.check(host, port, quota, refusal)
  local sock = ngx.socket.tcp()
  sock:settimeout(250)
  local ok, err = sock:connect(host, port, { pool_size = 1024 })
  if not ok then
    ngx.log(ngx.ERR, "redis: ", err)
    return ngx.exit(503)
  end
  if not sha then
    sha = command(sock, "SCRIPT", "LOAD", script)
  end
  local key = "bench:" .. ngx.today() .. ":" .. ngx.var.uri
  local used
  used, err = command(sock, "EVALSHA", sha, 1, key, quota)
  sock:setkeepalive(60000, 1024)
  if not used then
    ngx.log(ngx.ERR, "redis: ", err)
    return ngx.exit(503)
  end
  ngx.var.used = used
  if used < 0 then
    ngx.var.decision = "refused-quota"
    ngx.header["Content-Length"] = #refusal
    ngx.print(refusal)
    return ngx.exit(200)
  end
end

return M
