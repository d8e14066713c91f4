-- A new query string each time; all the other bytes of the head stay the same.
local before, after
local number = 0

function init(_)
   local head = wrk.format("GET", wrk.path .. "?n=@@")
   local from, to = head:find("@@", 1, true)
   before, after = head:sub(1, from - 1) .. os.time() .. "-", head:sub(to + 1)
end

function request()
   number = number + 1
   return before .. number .. after
end
