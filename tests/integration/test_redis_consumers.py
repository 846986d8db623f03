"""Members of the consumer group: how they wait, what they leave behind."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from blocks.broker import Session
from blocks.errors import BrokerError
from blocks.message import Dead, Done, Message, Outcome, Release
from blocks.redis_broker import RedisBroker
from tests.conformance.holder import holder
from tests.servers.redis_server import RedisServer
from tests.waiting import eventually

WAIT = timedelta(seconds=5)


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis(port=redis_server.port) as client:
        yield client


@pytest.fixture
def broker(redis_server: RedisServer) -> RedisBroker:
    return RedisBroker.from_url(redis_server.url)


@pytest.fixture
async def session(broker: RedisBroker) -> AsyncIterator[Session]:
    async with broker.connect() as session:
        yield session


@pytest.fixture
def queue() -> str:
    return f"orders-{uuid4().hex}"


async def consumers(redis: Redis, queue: str) -> set[str]:
    """Names in the group of the normal band."""
    rows: list[dict[str, Any]] = await redis.xinfo_consumers(queue, "noa")
    return {row["name"].decode() for row in rows}


async def test_no_more_than_asked_for_even_when_every_band_wakes_the_reader_at_once(
    session: Session, broker: RedisBroker, queue: str, redis: Redis
):
    await session.declare(queue)
    async with broker.connect() as other, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(session.receive(queue, max_messages=1, wait=WAIT))
        await eventually(lambda: blocked(redis), description="a reader is blocked")
        await other.publish(queue, [Message(body=b"", priority=one) for one in (9, 4, 0)])
        [first] = await waiting
        rest = await other.receive(queue, max_messages=5, wait=WAIT)
        assert {one.priority for one in [first, *rest]} == {0, 4, 9}
        assert {one.deliveries for one in [first, *rest]} == {1}


async def blocked(redis: Redis) -> bool:
    """Whether somebody waits in a blocking read."""
    return (await redis.info("clients"))["blocked_clients"] > 0


async def test_a_killed_consumer_is_forgotten_once_its_messages_have_gone_elsewhere(
    session: Session, broker: RedisBroker, queue: str, redis: Redis
):
    await session.publish(queue, [Message(body=b"held")])
    hasty = broker.model_copy(update={"lease_seconds": 1.0})
    async with holder(hasty, queue, 1):
        [dead] = await consumers(redis, queue)
    async with hasty.connect() as heir:

        async def forgotten() -> bool:
            held = await heir.receive(queue, max_messages=1, wait=timedelta(milliseconds=200))
            await heir.settle([Outcome(one, Done()) for one in held])
            return dead not in await consumers(redis, queue)

        await eventually(forgotten, description="the dead consumer's name to go")
        [alive] = await consumers(redis, queue)
        assert alive != dead


async def test_a_session_that_ends_leaves_no_consumer(
    session: Session, broker: RedisBroker, queue: str, redis: Redis
):
    await session.publish(queue, [Message(body=b"held")])
    async with broker.connect() as leaving:
        await leaving.receive(queue, max_messages=1, wait=WAIT)
        [name] = await consumers(redis, queue)
    assert name not in await consumers(redis, queue)


async def test_waiting_costs_a_handful_of_commands_a_second(
    session: Session, queue: str, redis: Redis
):
    await session.receive(queue, max_messages=1, wait=timedelta(0))
    before = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    await session.receive(queue, max_messages=1, wait=timedelta(seconds=2))
    after = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before <= 6


async def test_what_a_cancelled_call_took_comes_again_to_the_same_session_uncounted(
    session: Session, queue: str, redis: Redis
):
    await session.declare(queue)
    for round_ in range(100):
        receiving = asyncio.create_task(session.receive(queue, max_messages=2, wait=WAIT))
        await session.publish(queue, [Message(body=b"x", priority=9 if round_ % 2 else 0)])
        await asyncio.wait([receiving], timeout=round_ / 30_000)
        if receiving.cancel():
            await asyncio.wait([receiving])
        else:
            await session.settle([Outcome(one, Release()) for one in receiving.result()])
    arrived = await session.receive(queue, max_messages=200, wait=WAIT)
    assert len(arrived) == 100
    assert {one.deliveries for one in arrived} == {1}


async def test_a_call_that_is_carried_out_after_its_cancellation_takes_nothing_away(
    session: Session, queue: str, redis: Redis
):
    await session.publish(queue, [Message(body=b"first")])
    first = await session.receive(queue, max_messages=1, wait=WAIT)
    [name] = await consumers(redis, queue)
    receiving = asyncio.create_task(session.receive(queue, max_messages=1, wait=WAIT))
    await eventually(lambda: blocked(redis), description="the reader is blocked")
    receiving.cancel()
    await asyncio.wait([receiving])
    assert not await session.receive(queue, max_messages=1, wait=timedelta(0))
    await session.publish(queue, [Message(body=b"late")])
    assert await redis.xreadgroup("noa", name, {queue: ">"})
    [late] = await session.receive(queue, max_messages=1, wait=WAIT)
    assert (late.body, late.deliveries) == (b"late", 1)
    assert await session.renew(first) == first


async def test_a_session_ends_well_beside_a_call_that_looks_for_strays(
    broker: RedisBroker, queue: str, redis: Redis
):
    async with broker.connect() as leaving:
        receiving = asyncio.create_task(leaving.receive(queue, max_messages=1, wait=WAIT))
        await eventually(lambda: blocked(redis), description="the reader is blocked")
        receiving.cancel()
        await asyncio.wait([receiving])
        # Both of them find that no more strays can come.
        await asyncio.sleep(1.1)
        looking = asyncio.create_task(leaving.receive(queue, max_messages=1, wait=timedelta(0)))
        await asyncio.sleep(0)
    [outcome] = await asyncio.gather(looking, return_exceptions=True)
    assert outcome == [] or isinstance(outcome, BrokerError)


@pytest.mark.parametrize("forgotten", [False, True])
async def test_a_cancellation_ends_a_call_whenever_it_comes(
    session: Session, queue: str, redis: Redis, *, forgotten: bool
):
    await session.declare(queue)
    await session.publish(queue, [Message(body=b"x")])
    for steps in range(60):
        if forgotten:
            await redis.script_flush()
        receiving = asyncio.create_task(session.receive(queue, max_messages=1, wait=WAIT))
        for _ in range(steps):
            await asyncio.sleep(0)
        if receiving.cancel():
            await asyncio.wait([receiving])
            assert receiving.cancelled()
        else:
            await session.settle([Outcome(one, Release()) for one in receiving.result()])


async def test_two_groups_do_not_share_their_leases(
    redis: Redis, broker: RedisBroker, session: Session, queue: str
):
    await session.publish(queue, [Message(body=b"both")])
    async with broker.model_copy(update={"group": "audit"}).connect() as audit:
        [one] = await session.receive(queue, max_messages=1, wait=WAIT)
        [other] = await audit.receive(queue, max_messages=1, wait=WAIT)
        assert one.id == other.id


async def test_a_large_batch_of_large_bodies_is_cut_short_and_nothing_is_left_behind(
    session: Session, queue: str
):
    body = bytes(4 * 1024 * 1024)
    outcomes = await session.publish(queue, [Message(body=body)] * 40)
    assert all(one.error is None for one in outcomes)
    arrived: list[int] = []
    while sum(arrived) < 40:
        held = await session.receive(queue, max_messages=40, wait=WAIT)
        arrived.append(len(held))
        await session.settle([Outcome(one, Dead(reason="failed", error="")) for one in held])
    assert set(arrived) == {2}
    letters = {letter.handle: None async for letter in session.browse_dead(queue)}
    assert len(letters) == 40
    assert len(await session.settle_dead(queue, letters)) == 40
