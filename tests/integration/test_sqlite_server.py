"""Prefect's server on SQLite: failed statements and the event loop, refused writes."""

import asyncio
import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from deployments import sqlite_server
from deployments.sqlite_server import close_failed_cursors
from tests.servers.prefect_server import PrefectServer

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


class _SqliteServer(PrefectServer):
    def command(self) -> list[str]:
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        return [sys.executable, "-P", str(sqlite_server.__file__), *address]


@pytest.fixture(scope="module")
def server() -> Iterator[_SqliteServer]:
    with _SqliteServer() as server:
        yield server


async def test_every_write_of_several_clients_succeeds(server: _SqliteServer) -> None:
    """Clients that don't try again, as browsers; Prefect refuses one write in six here."""
    async with httpx.AsyncClient(base_url=server.api_url, timeout=60) as client:
        flow = (await client.post("/flows/", json={"name": "written"})).json()["id"]

        async def write() -> list[int]:
            statuses: list[int] = []
            for _ in range(8):
                made = await client.post("/flow_runs/", json={"flow_id": flow})
                pending = {"state": {"type": "PENDING", "name": "Pending"}}
                run = f"/flow_runs/{made.json().get('id')}/set_state"
                statuses += [made.status_code, (await client.post(run, json=pending)).status_code]
            return statuses

        written = await asyncio.gather(*(write() for _ in range(6)))
        pending_runs = {"flow_runs": {"state": {"type": {"any_": ["PENDING"]}}}}
        counted = await client.post("/flow_runs/count", json=pending_runs)

    assert {status for statuses in written for status in statuses} <= {200, 201}
    assert counted.json() == 6 * 8


async def test_what_is_wrong_is_refused_as_ever(server: _SqliteServer) -> None:
    async with httpx.AsyncClient(base_url=server.api_url) as client:
        answer = await client.post("/flow_runs/", json={"flow_id": "no id"})

    assert answer.status_code == 422
    assert "flow_id" in answer.text
