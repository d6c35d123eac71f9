"""The naive storage, the lower bound on speed: one table, one connection, a commit for each event, full scans."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID

from .storage import EPOCH, Summary, shown, to_microseconds

T = TypeVar("T")

# `symbol` is that of an initial request; a follow-up has none.
TABLE = "CREATE TABLE IF NOT EXISTS requests (time INTEGER NOT NULL, uuid TEXT NOT NULL, symbol TEXT)"

QUESTION = """
WITH initial AS (
    SELECT * FROM requests WHERE symbol IS NOT NULL AND {condition}
), followed AS (
    SELECT opened.symbol, count(*) AS followups
    FROM (SELECT DISTINCT symbol, uuid FROM initial) AS opened JOIN requests AS followup
    ON followup.uuid = opened.uuid AND followup.symbol IS NULL
    GROUP BY opened.symbol
)
SELECT symbol, count(*), min(time), max(time), coalesce(followups, 0)
FROM initial LEFT JOIN followed USING (symbol) GROUP BY symbol ORDER BY symbol
"""


class SqliteStorage:
    """Open in a thread of its own, which the connection belongs to, as long as the context is."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._thread = ThreadPoolExecutor(1, "sqlite")
        self._connection: sqlite3.Connection

    async def __aenter__(self) -> Self:
        await self._in_thread(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._in_thread(lambda: self._connection.close())
        self._thread.shutdown()

    async def log_initial(self, uuid: UUID, symbol: str, at: datetime) -> None:
        await self._insert(at, uuid, symbol)

    async def log_followup(self, uuid: UUID, at: datetime) -> None:
        await self._insert(at, uuid, None)

    async def symbol(self, symbol: str) -> Summary:
        found = await self._asked("symbol = ?", symbol)
        return found[0] if found else Summary(0, symbol)

    async def range(self, lower: datetime, upper: datetime) -> list[Summary]:
        return await self._asked("time >= ? AND time < ?", to_microseconds(lower), to_microseconds(upper))

    def _open(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(self._file, isolation_level=None)
        self._connection.execute(TABLE)

    async def _insert(self, at: datetime, uuid: UUID, symbol: str | None) -> None:
        row = to_microseconds(at), str(uuid), symbol
        await self._in_thread(lambda: self._connection.execute("INSERT INTO requests VALUES (?, ?, ?)", row))

    async def _asked(self, condition: str, *values: str | int) -> list[Summary]:
        question = QUESTION.format(condition=condition)
        rows: list[Any] = await self._in_thread(lambda: self._connection.execute(question, values).fetchall())
        return [
            Summary(count, symbol, _shown(earliest), _shown(latest), followups)
            for symbol, count, earliest, latest, followups in rows
        ]

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


def _shown(microseconds: int) -> str:
    return shown(EPOCH + timedelta(microseconds=microseconds))
