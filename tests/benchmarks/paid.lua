-- Sends every payment of a file once: a header's name, a tab, and its value, a line each.
local headers, at = {}, 0

function init(args)
  for line in io.lines(args[1]) do
    local name, value = line:match("^(.-)\t(.*)$")
    headers[#headers + 1] = { [name] = value }
  end
end

function request()
  at = at + 1
  if headers[at] == nil then
    if at == #headers + 1 then print("payments ran out") end
    wrk.thread:stop()
    return wrk.format("GET", nil)
  end
  return wrk.format("GET", nil, headers[at])
end
