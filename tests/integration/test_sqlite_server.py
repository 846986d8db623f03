"""Failed statements on SQLite, and the event loop."""

import asyncio
import gc
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from deployments.sqlite_server import close_failed_cursors

_BEGIN_FOR_WRITING = "BEGIN IMMEDIATE"
_INSERT = "INSERT INTO things VALUES (1)"
_PATIENCE_SECONDS = 3


async def test_a_failed_statement_does_not_stop_the_event_loop(tmp_path: Path) -> None:
    """As in Prefect's server: the statement's remains are collected while its connection waits."""
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}", connect_args={"isolation_level": None}
    )
    close_failed_cursors(engine.sync_engine)
    try:
        async with engine.connect() as one, engine.connect() as other:
            for connection in (one, other):
                await _run(connection, f"PRAGMA busy_timeout = {_PATIENCE_SECONDS * 1000}")
            await _run(one, "PRAGMA journal_mode = WAL")
            await _run(one, "CREATE TABLE things (number INTEGER)")
            remains = [await _fail(one, because_of=other)]
            remains.append(remains)  # pyright: ignore[reportArgumentType] — only the collector frees it

            await _run(other, _BEGIN_FOR_WRITING)
            waiting = asyncio.create_task(_run(one, _BEGIN_FOR_WRITING))
            await asyncio.sleep(_PATIENCE_SECONDS / 10)
            del remains
            gc.collect()
            await _run(other, "ROLLBACK")

            await waiting  # got the lock, and no "database is locked"
    finally:
        await engine.dispose()


async def _run(connection: AsyncConnection, statement: str) -> None:
    await connection.execute(text(statement))


async def _fail(connection: AsyncConnection, *, because_of: AsyncConnection) -> OperationalError:
    """Let a write fail, as another was faster since the transaction began to read."""
    await _run(connection, "BEGIN DEFERRED")
    await _run(connection, "SELECT * FROM things")
    await _run(because_of, _INSERT)
    with pytest.raises(OperationalError, match="locked") as caught:
        await _run(connection, _INSERT)
    await _run(connection, "ROLLBACK")
    return caught.value
