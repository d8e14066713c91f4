-- No two heads alike: the value of one header is random.
local before, after
local random = math.random

function init(_)
   math.randomseed(os.time())
   wrk.headers["X-Request-Id"] = "@@"
   local head = wrk.format("GET")
   local from, to = head:find("@@", 1, true)
   before, after = head:sub(1, from - 1), head:sub(to + 1)
end

function request()
   return before .. random(1e9, 2e9) .. random(1e9, 2e9) .. after
end
