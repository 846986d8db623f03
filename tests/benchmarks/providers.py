"""Publish and receive rates of each provider, beside the bare client doing the same."""

import sqlite3
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from redis.asyncio import Redis

from blocks.broker import Broker, Session
from blocks.embedded_broker import EmbeddedBroker
from blocks.message import Done, Message, Outcome
from blocks.redis_broker import RedisBroker
from tests.benchmarks.table import Table
from tests.servers.redis_server import RedisServer

MESSAGES = 10_000
BATCH = 100
ROUNDS = 5
BODY = b'{"type": "noop", "data": {"echo": "' + b"x" * 200 + b'"}}'


async def measure_providers() -> Table:
    """Publish and drain in batches of a hundred, bare and through the contract, in turn."""
    table = Table(f"Providers, {MESSAGES:,} messages of {len(BODY)} bytes, batches of {BATCH}")
    with TemporaryDirectory() as folder, RedisServer() as redis:
        for _ in range(ROUNDS):
            await _bare_redis(table, redis.url)
            await _provider(table, "Redis", RedisBroker.from_url(redis.url))
            _bare_sqlite(table, Path(folder) / f"{uuid4().hex}.db")
            await _provider(table, "SQLite", EmbeddedBroker(path=Path(folder) / "queue.db"))
    return table


async def _provider(table: Table, name: str, broker: Broker) -> None:
    queue = f"bench-{uuid4().hex}"
    async with broker.connect() as session:
        await session.declare(queue)

        async def publish() -> None:
            for _ in range(MESSAGES // BATCH):
                await session.publish(queue, [Message(body=BODY)] * BATCH)

        table.add(f"{name}: publish", await _rate(publish), beside=f"bare {name}: publish")

        async def drain() -> None:
            await _drain(session, queue)

        table.add(
            f"{name}: receive, settle", await _rate(drain), beside=f"bare {name}: receive, settle"
        )


async def _drain(session: Session, queue: str) -> None:
    left = MESSAGES
    while left:
        taken = await session.receive(queue, max_messages=BATCH, wait=timedelta(seconds=5))
        await session.settle([Outcome(delivery, Done()) for delivery in taken])
        left -= len(taken)


async def _bare_redis(table: Table, url: str) -> None:
    """XADD, then XREADGROUP with XACK and XDEL, in pipelines."""
    stream = f"bare-{uuid4().hex}"
    client: Any = Redis.from_url(url)
    await client.xgroup_create(stream, "group", id="0", mkstream=True)

    async def publish() -> None:
        for _ in range(MESSAGES // BATCH):
            pipeline = client.pipeline(transaction=False)
            for _ in range(BATCH):
                pipeline.xadd(stream, {"body": BODY})
            await pipeline.execute()

    async def drain() -> None:
        left = MESSAGES
        while left:
            ((_, entries),) = await client.xreadgroup("group", "me", {stream: ">"}, count=BATCH)
            ids = [entry_id for entry_id, _ in entries]
            pipeline = client.pipeline(transaction=True)
            pipeline.xack(stream, "group", *ids)
            pipeline.xdel(stream, *ids)
            await pipeline.execute()
            left -= len(ids)

    table.add("bare Redis: publish", await _rate(publish))
    table.add("bare Redis: receive, settle", await _rate(drain))
    await client.aclose()


def _bare_sqlite(table: Table, path: Path) -> None:
    """Insert; then lease by UPDATE … RETURNING, and delete: one transaction a batch."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE queue (id INTEGER PRIMARY KEY, body BLOB, holder TEXT)")
    database.execute("CREATE INDEX free ON queue (id) WHERE holder IS NULL")
    began = time.monotonic()
    for _ in range(MESSAGES // BATCH):
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO queue (body) VALUES (?)", [(BODY,)] * BATCH)
        database.execute("COMMIT")
    table.add("bare SQLite: publish", MESSAGES / (time.monotonic() - began))
    began = time.monotonic()
    for _ in range(MESSAGES // BATCH):
        database.execute("BEGIN IMMEDIATE")
        rows = database.execute(
            "UPDATE queue SET holder = 'me' WHERE id IN "
            "(SELECT id FROM queue WHERE holder IS NULL ORDER BY id LIMIT ?) RETURNING id, body",
            (BATCH,),
        ).fetchall()
        database.execute("COMMIT")
        database.execute("BEGIN IMMEDIATE")
        database.executemany("DELETE FROM queue WHERE id = ?", [(row[0],) for row in rows])
        database.execute("COMMIT")
    table.add("bare SQLite: receive, settle", MESSAGES / (time.monotonic() - began))
    database.close()


async def _rate(work: Callable[[], Awaitable[None]]) -> float:
    began = time.monotonic()
    await work()
    return MESSAGES / (time.monotonic() - began)
