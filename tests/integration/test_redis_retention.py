"""How many dead letters Redis keeps: all of them, or what the block allows."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from blocks.broker import Session
from blocks.errors import BrokerRefusedError
from blocks.message import Dead, Message, Outcome
from blocks.redis_broker import RedisBroker
from tests.servers.redis_rights import MEMORY, user
from tests.servers.redis_server import RedisServer

AT_ONCE = timedelta(0)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    frugal = user("frugal", "secret", "orders-*", more=MEMORY)
    with RedisServer(users=[frugal, user("poor", "secret", "orders-*")]) as server:
        yield server


@pytest.fixture
def broker(server: RedisServer) -> RedisBroker:
    return RedisBroker(
        host="127.0.0.1", port=server.port, username="frugal", password=SecretStr("secret")
    )


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis(port=server.port) as client:
        yield client


@pytest.fixture
def queue() -> str:
    return f"orders-{uuid4().hex}"


async def bury(session: Session, queue: str, count: int, body: bytes) -> list[str]:
    """Let messages die, and return their ids."""
    await session.publish(queue, [Message(body=body)] * count)
    ids: list[str] = []
    while len(ids) < count:
        taken = await session.receive(queue, max_messages=count, wait=AT_ONCE)
        await session.settle([Outcome(one, Dead(reason="failed", error="")) for one in taken])
        ids += [one.id for one in taken]
    return ids


async def swept(broker: RedisBroker, queue: str, **limits: float) -> list[str]:
    """Receive under limits, as a new session does, and return the ids of the dead that are left."""
    async with broker.model_copy(update=limits).connect() as session:
        await session.receive(queue, max_messages=1, wait=AT_ONCE)
        return [letter.id async for letter in session.browse_dead(queue)]


async def test_all_dead_letters_stay_where_the_block_says_nothing(broker: RedisBroker, queue: str):
    async with broker.connect() as session:
        ids = await bury(session, queue, 200, b"x" * 10_000)
    assert await swept(broker, queue) == ids


async def test_the_oldest_dead_letters_go_until_the_others_fit(
    broker: RedisBroker, redis: Redis, queue: str, caplog: pytest.LogCaptureFixture
):
    async with broker.connect() as session:
        old = await bury(session, queue, 5, b"x" * 100_000)
        ids = old + await bury(session, queue, 100, b"x" * 10_000)
    left = await swept(broker, queue, dead_letters_max_bytes=1_000_000)
    assert left == ids[-len(left) :]
    # Each takes its 10,000 bytes and some more in Redis' memory.
    assert 70 <= len(left) <= 100
    usage: Any = await redis.memory_usage(f"{queue}:dead", samples=0)
    assert usage <= 1_000_000
    assert f"Dropped the {105 - len(left)} oldest dead letters of '{queue}'" in caplog.text
    assert await swept(broker, queue, dead_letters_max_bytes=1_000_000) == left


async def test_dead_letters_go_when_they_are_too_old(broker: RedisBroker, redis: Redis, queue: str):
    seconds, _ = await redis.time()
    days = [int((seconds - 86_400 * age) * 1_000) for age in (9, 3, 1)]
    for stamp in days:
        await redis.xadd(f"{queue}:dead", {"body": "x"}, id=f"{stamp}-0")
    left = await swept(broker, queue, dead_letters_max_age_days=2.0)
    assert left == [f"{days[2]}-0"]


async def test_messages_that_nobody_has_settled_are_no_matter_of_the_limits(
    broker: RedisBroker, queue: str
):
    limits = {"dead_letters_max_bytes": 1, "dead_letters_max_age_days": 0.000_001}
    async with broker.model_copy(update=limits).connect() as session:
        await session.subscribe(queue, f"{queue}.news")
        await session.broadcast(f"{queue}.news", [Message(body=b"x")] * 20)
        await session.publish(queue, [Message(body=b"x")] * 20)
        held = await session.receive(queue, max_messages=5, wait=AT_ONCE)
        await swept(broker, queue, **limits)
        depth = await session.depth(queue)
        assert (depth.ready, depth.in_flight) == (35, len(held))


async def test_a_user_who_may_not_look_up_memory_is_told(broker: RedisBroker, queue: str):
    poor = broker.model_copy(update={"username": "poor"})
    assert await swept(poor, queue, dead_letters_max_age_days=1.0) == []
    with pytest.raises(BrokerRefusedError, match="ACL"):
        await swept(poor, queue, dead_letters_max_bytes=1_000_000)
