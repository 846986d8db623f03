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
        rows = await self._pool.fetch(f"SELECT {expression} {_OF_THE_QUEUE}", self._tag)
        return [row[0] for row in rows]


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
