"""Redis as the storage: raw events in a stream, and beside it what a question needs, kept by scripts in the server.

Each key begins with `vowels:`

    requests          stream: `time` in microseconds, `uuid`, and `symbol` of an initial request
    initials:SYMBOL   sorted set: initial requests by their time
    followups:SYMBOL  sorted set: follow-ups by the time of their initial request, so that a range is counted at once
    reopened:SYMBOL   sorted set: initial requests whose uuid had the symbol several times; questions go through them
    followed          hash of counters: the follow-ups of each uuid
    opened:UUID       hash: for each symbol of the uuid the time of its initial request, or `again`
"""

from datetime import datetime, timedelta
from string import ascii_lowercase
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

from redis.asyncio import Redis

from .storage import EPOCH, Summary, shown, to_microseconds

# Times stay texts: Lua would write such numbers with 14 digits.
INITIAL: Final = """
local prefix, time, uuid, symbol = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local id = redis.call('XADD', prefix .. 'requests', '*', 'time', time, 'uuid', uuid, 'symbol', symbol)
redis.call('ZADD', prefix .. 'initials:' .. symbol, time, id)
local opened, followups = prefix .. 'opened:' .. uuid, prefix .. 'followups:' .. symbol
local first = redis.call('HGET', opened, symbol)
local count = tonumber(redis.call('HGET', prefix .. 'followed', uuid) or 0)
if not first then
    redis.call('HSET', opened, symbol, time)
    for number = 1, count do redis.call('ZADD', followups, time, uuid .. ':' .. number) end
    return
end
local reopened = prefix .. 'reopened:' .. symbol
if first ~= 'again' then
    redis.call('HSET', opened, symbol, 'again')
    for number = 1, count do redis.call('ZREM', followups, uuid .. ':' .. number) end
    redis.call('ZADD', reopened, first, uuid .. ':first')
end
redis.call('ZADD', reopened, time, uuid .. ':' .. id)
"""

FOLLOWUP: Final = """
local prefix, time, uuid = KEYS[1], ARGV[1], ARGV[2]
redis.call('XADD', prefix .. 'requests', '*', 'time', time, 'uuid', uuid)
local number = redis.call('HINCRBY', prefix .. 'followed', uuid, 1)
local opened = redis.call('HGETALL', prefix .. 'opened:' .. uuid)
for at = 1, #opened, 2 do
    if opened[at + 1] ~= 'again' then
        redis.call('ZADD', prefix .. 'followups:' .. opened[at], opened[at + 1], uuid .. ':' .. number)
    end
end
"""

SUMMARIES: Final = """
local prefix, lower, upper = KEYS[1], ARGV[1], ARGV[2]
local found = {}
for at = 3, #ARGV do
    local symbol = ARGV[at]
    local initials = prefix .. 'initials:' .. symbol
    local count = redis.call('ZCOUNT', initials, lower, upper)
    if count > 0 then
        local earliest = redis.call('ZRANGEBYSCORE', initials, lower, upper, 'WITHSCORES', 'LIMIT', 0, 1)[2]
        local latest = redis.call('ZREVRANGEBYSCORE', initials, upper, lower, 'WITHSCORES', 'LIMIT', 0, 1)[2]
        local followups = redis.call('ZCOUNT', prefix .. 'followups:' .. symbol, lower, upper)
        local seen = {}
        for _, member in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'reopened:' .. symbol, lower, upper)) do
            local uuid = member:sub(1, 36)
            if not seen[uuid] then
                seen[uuid] = true
                followups = followups + tonumber(redis.call('HGET', prefix .. 'followed', uuid) or 0)
            end
        end
        found[#found + 1] = {symbol, count, earliest, latest, followups}
    end
end
return found
"""


class RedisStorage:
    """A connection pool to one server, as long as the context is open.

    :param url: as `redis://localhost:6379`.
    """

    def __init__(self, url: str, prefix: str = "vowels:") -> None:
        self._redis = Redis.from_url(url, decode_responses=True)  # pyright: ignore[reportUnknownMemberType]  # its **kwargs
        self._prefix = prefix
        self._initial, self._followup, self._summaries = map(
            self._redis.register_script, (INITIAL, FOLLOWUP, SUMMARIES)
        )

    async def __aenter__(self) -> Self:
        await self._redis.ping()  # pyright: ignore[reportUnknownMemberType]  # its **kwargs
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._redis.aclose()

    async def log_initial(self, uuid: UUID, symbol: str, at: datetime) -> None:
        await self._initial([self._prefix], [to_microseconds(at), str(uuid), symbol])

    async def log_followup(self, uuid: UUID, at: datetime) -> None:
        await self._followup([self._prefix], [to_microseconds(at), str(uuid)])

    async def symbol(self, symbol: str) -> Summary:
        found = await self._asked("-inf", "+inf", symbol)
        return found[0] if found else Summary(0, symbol)

    async def range(self, lower: datetime, upper: datetime) -> list[Summary]:
        return await self._asked(str(to_microseconds(lower)), f"({to_microseconds(upper)}", ascii_lowercase)

    async def _asked(self, lower: str, upper: str, symbols: str) -> list[Summary]:
        rows: list[Any] = await self._summaries([self._prefix], [lower, upper, *symbols])
        return [
            Summary(count, symbol, _shown(earliest), _shown(latest), followups)
            for symbol, count, earliest, latest, followups in rows
        ]


def _shown(microseconds: str) -> str:
    return shown(EPOCH + timedelta(microseconds=int(microseconds)))
