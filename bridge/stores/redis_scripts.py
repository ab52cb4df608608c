"""What Redis does by itself, atomically: scripts around one function that writes a row and keeps its indices.

Two indices stand beside the rows: OPEN, the rows whose outcome is open, by the end of their leases, and EXPIRY, the
rows that may be forgotten some day, by `valid_before`. Every write of a row passes through `write`, so they are exact.
"""

import hashlib

from bridge.stores import rules

__all__ = ["KEEP_FINISHED_SECONDS", "Script", "Scripts"]

KEEP_FINISHED_SECONDS = 86_400
"""How long after `valid_before` Redis still keeps a finished row, if nobody has purged it.

No less than clocks can differ: as long as anybody takes the authorization for valid, its row must be there.
"""

_LONGEST_TTL_SECONDS = 10 * 365 * 86_400
"""A row that would live longer gets no end: `valid_before` goes up to 2**256, and Redis counts in 64 bits."""

_PRELUDE = """
local ROW, OPEN, EXPIRY = KEYS[1], KEYS[2], KEYS[3]
local IS_OPEN, IS_FORGETTABLE, IS_FINISHED = {open}, {forgettable}, {finished}

local function write(id, now, first)
    -- HSET first: Redis refuses it when its memory is full, and then nothing is changed.
    redis.call('HSET', ROW, unpack(ARGV, first))
    local state, lease_until, valid_before = unpack(redis.call('HMGET', ROW, 'state', 'lease_until', 'valid_before'))
    if IS_OPEN[state] then redis.call('ZADD', OPEN, lease_until, id) else redis.call('ZREM', OPEN, id) end
    if IS_FORGETTABLE[state] then redis.call('ZADD', EXPIRY, valid_before, id) else redis.call('ZREM', EXPIRY, id) end
    local seconds = math.max(tonumber(valid_before) - tonumber(now), 0) + {keep}
    if {expires} and IS_FINISHED[state] and seconds < {longest} then
        redis.call('PEXPIRE', ROW, string.format('%.0f', math.ceil(seconds * 1000)))
    else
        redis.call('PERSIST', ROW)
    end
end
"""

_INSERT = """
-- ARGV: id, now, the row. Answers with the row that is there already, or with nothing.
local row = redis.call('HGETALL', ROW)
if #row == 0 then write(ARGV[1], ARGV[2], 3) end
return row
"""

_ADVANCE = """
-- ARGV: id, now, owner, the states to come from, what changes. Answers whether it did, and with the row.
local state, owner = unpack(redis.call('HMGET', ROW, 'state', 'owner'))
local may = owner == ARGV[3] and string.find(ARGV[4], ',' .. state .. ',', 1, true) ~= nil
if may then write(ARGV[1], ARGV[2], 5) end
return {may and 1 or 0, redis.call('HGETALL', ROW)}
"""

_DELIVER = """
-- KEYS[4] is where the answer is kept, KEYS[5] what is kept by its end. ARGV: id, now, owner, the states to come from,
-- the answer, its end, its seconds (0: no end), what changes. Answers as the script above does.
local state, owner = unpack(redis.call('HMGET', ROW, 'state', 'owner'))
local may = owner == ARGV[3] and string.find(ARGV[4], ',' .. state .. ',', 1, true) ~= nil
if may then
    redis.call('SET', KEYS[4], ARGV[5])
    if ARGV[7] ~= '0' then redis.call('EXPIRE', KEYS[4], ARGV[7]) end
    redis.call('ZADD', KEYS[5], ARGV[6], KEYS[4])
    write(ARGV[1], ARGV[2], 8)
end
return {may and 1 or 0, redis.call('HGETALL', ROW)}
"""

_BIND = """
-- KEYS: the idempotency key's, what is kept by its end. ARGV: the payment, now, the end, its seconds (0: no end), whom
-- it may be in place of. Answers with the payment that the key is bound to.
local bound = redis.call('HMGET', KEYS[1], 'to', 'until')
if bound[1] and tonumber(bound[2]) > tonumber(ARGV[2]) and bound[1] ~= ARGV[1] and bound[1] ~= ARGV[5] then
    return bound[1]
end
redis.call('HSET', KEYS[1], 'to', ARGV[1], 'until', ARGV[3])
if ARGV[4] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[4]) end
redis.call('ZADD', KEYS[2], ARGV[3], KEYS[1])
return ARGV[1]
"""

_FORGET = """
-- KEYS[1]: what is kept by its end. ARGV: now, limit. Answers how many were looked at.
local keys = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, key in ipairs(keys) do
    redis.call('DEL', key)
    redis.call('ZREM', KEYS[1], key)
end
return #keys
"""

_REPLACE = """
-- ARGV: id, now, the row as it was seen, the row that follows. Answers whether it was still as it was seen.
local length = redis.call('HLEN', ROW) * 2
if length * 2 ~= #ARGV - 2 then return 0 end
for i = 3, length + 1, 2 do
    if redis.call('HGET', ROW, ARGV[i]) ~= ARGV[i + 1] then return 0 end
end
write(ARGV[1], ARGV[2], length + 3)
return 1
"""

_TAKE_OVER = """
-- KEYS[1] is what the keys of rows begin with. ARGV: owner, now, lease_until, limit, the
-- only id or nothing. Answers with the rows.
local ids, taken = {}, {}
if ARGV[5] == '' then
    ids = redis.call('ZRANGEBYSCORE', OPEN, '-inf', ARGV[2], 'LIMIT', 0, ARGV[4])
else
    local lease_until = redis.call('ZSCORE', OPEN, ARGV[5])
    if lease_until and tonumber(lease_until) <= tonumber(ARGV[2]) then ids = {ARGV[5]} end
end
for i, id in ipairs(ids) do
    redis.call('HSET', ROW .. id, 'owner', ARGV[1], 'updated_at', ARGV[2], 'lease_until', ARGV[3])
    redis.call('ZADD', OPEN, ARGV[3], id)
    taken[i] = redis.call('HGETALL', ROW .. id)
end
return taken
"""

_PURGE = """
-- KEYS[1] is what the keys of rows begin with. ARGV: now, how many to pass over, limit. Answers how many were looked
-- at, how many of them went, and how many stay.
local purged, kept = 0, 0
local ids = redis.call('ZRANGEBYSCORE', EXPIRY, '-inf', ARGV[1], 'LIMIT', ARGV[2], ARGV[3])
for _, id in ipairs(ids) do
    local state, lease_until = unpack(redis.call('HMGET', ROW .. id, 'state', 'lease_until'))
    if state and not IS_FINISHED[state] and tonumber(lease_until) > tonumber(ARGV[1]) then
        kept = kept + 1
    else
        purged = purged + redis.call('DEL', ROW .. id) -- none where the row has ended by itself
        redis.call('ZREM', EXPIRY, id)
    end
end
return {#ids, purged, kept}
"""


class Script:
    """A script and the name that Redis knows it by."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


class Scripts:
    """The scripts, with the lifecycle's groups of states in them. Each has three keys: the row, OPEN and EXPIRY.

    `expires`: whether a finished row may end by itself.
    """

    def __init__(self, *, expires: bool) -> None:
        prelude = _PRELUDE
        for name, value in {
            "open": _lua_set(rules.OUTCOME_OPEN),
            "forgettable": _lua_set(rules.FORGETTABLE),
            "finished": _lua_set(rules.FINISHED),
            "keep": KEEP_FINISHED_SECONDS,
            "longest": _LONGEST_TTL_SECONDS,
            "expires": "true" if expires else "false",
        }.items():
            prelude = prelude.replace(f"{{{name}}}", str(value))
        self.insert = Script(prelude + _INSERT)
        """Store a row unless there is one."""
        self.advance = Script(prelude + _ADVANCE)
        """Change a row that is its owner's and in one of certain states."""
        self.replace = Script(prelude + _REPLACE)
        """Store another row in place of one, if that is still as it was seen."""
        self.take_over = Script(prelude + _TAKE_OVER)
        """Hand over the open rows whose lease is over, the longest waiting first."""
        self.deliver = Script(prelude + _DELIVER)
        """Change a row as `advance` does, and keep an answer with it."""
        self.bind_key = Script(_BIND)
        """Bind an idempotency key; its keys are its own."""
        self.forget = Script(_FORGET)
        """Delete answers and keys whose time is over."""
        self.purge = Script(prelude + _PURGE)
        """Delete some of the rows that nobody needs."""


def _lua_set(states: tuple[str, ...]) -> str:
    return "{" + ", ".join(f"{state} = true" for state in states) + "}"
