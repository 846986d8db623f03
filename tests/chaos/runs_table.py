"""Prefect's runs as PostgreSQL has them: counted past Prefect's API and past our own code."""

import importlib
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

_OF_THE_QUEUE = "FROM flow_run WHERE tags @> $1::jsonb"


class RunsTable:
    """The flow runs that carry the tag of one queue."""

    def __init__(self, pool: Any, queue: str) -> None:
        self._pool = pool
        self._tag = json.dumps([f"queue:{queue}"])

    async def count(self) -> int:
        """How many there are."""
        return int(await self._pool.fetchval(f"SELECT count(*) {_OF_THE_QUEUE}", self._tag))

    async def column(self, expression: str) -> Sequence[Any]:
        """What an SQL expression yields for each of them."""
        return [row[0] for row in await self.rows(expression)]

    async def rows(self, expressions: str, *, which: str = "true") -> Sequence[Sequence[Any]]:
        """What SQL expressions yield for each of them, or for those that a condition leaves."""
        found = await self._pool.fetch(
            f"SELECT {expressions} {_OF_THE_QUEUE} AND {which}", self._tag
        )
        return [tuple(row) for row in found]

    async def states(self) -> Sequence[Sequence[Any]]:
        """Every state that they have been in, oldest first: run, name, type, epoch seconds.

        The time is that of the row. A state's own is when it was asked for: of two at the same
        time, the one that was asked for first may be accepted last.
        """
        found = await self._pool.fetch(
            "SELECT flow_run_id::text, name, type::text, extract(epoch FROM created)::float8 "
            f"FROM flow_run_state WHERE flow_run_id IN (SELECT id {_OF_THE_QUEUE}) "
            "ORDER BY created",
            self._tag,
        )
        return [tuple(row) for row in found]


@asynccontextmanager
async def open_runs_table(database_url: str, queue: str) -> AsyncGenerator[RunsTable]:
    """Connect to a Prefect server's database.

    Args:
        database_url: As `PrefectServer` has it, `postgresql+asyncpg://…`.
        queue: The queue whose runs are meant.
    """
    asyncpg: Any = importlib.import_module("asyncpg")  # which has no types
    url = database_url.replace("+asyncpg", "")
    async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
        yield RunsTable(pool, queue)
