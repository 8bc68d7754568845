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

-- The account's token takes the place of whatever the caller sent, and the figures go into the headers
-- and the log.
local token = "80_benchbenchbenchbenchbenchbenchbenchbenchbenchbench"

local function figures(quota, used)
  local args = ngx.req.get_uri_args()
  args.access_token = token
  ngx.req.set_uri_args(args)
  local now = ngx.time() + 8 * 3600
  ngx.var.rule = ngx.var.uri:match("[^/]+$")
  ngx.var.remaining = math.max(0, quota - used)
  ngx.var.reset = 86400 - now % 86400
end

function M.headers()
  local h, var = ngx.header, ngx.var
  h["X-Request-Id"] = var.request_id
  h["X-Decision"] = var.decision
  h["X-Rule"] = var.rule
  h["X-RateLimit-Limit"] = var.quota
  h["X-RateLimit-Remaining"] = var.remaining
  h["X-RateLimit-Reset"] = var.reset
end

function M.check(host, port, quota, refusal, whole)
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
  if whole then
    figures(quota, used < 0 and quota or used)
  end
  if used < 0 then
    ngx.var.decision = "refused-quota"
    ngx.header["Content-Length"] = #refusal
    ngx.print(refusal)
    return ngx.exit(200)
  end
end

return M
