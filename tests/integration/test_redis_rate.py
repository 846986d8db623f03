"""A queue that is emptied no faster than its block allows, however many consumers there are."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from blocks.broker import Session
from blocks.errors import BrokerRefusedError
from blocks.message import Band, Delivery, Done, Message, Outcome, Retry
from blocks.redis_broker import RedisBroker
from tests.servers.redis_rights import RATE, user
from tests.servers.redis_server import RedisServer

WAIT = timedelta(seconds=5)
AT_ONCE = timedelta(0)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    users = [user("slow", "secret", "orders-*", more=RATE), user("poor", "secret", "orders-*")]
    with RedisServer(users=users) as server:
        yield server


@pytest.fixture
def broker(server: RedisServer) -> RedisBroker:
    return RedisBroker(
        host="127.0.0.1", port=server.port, username="slow", password=SecretStr("secret")
    )


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis(port=server.port) as client:
        yield client


@pytest.fixture
def queue() -> str:
    return f"orders-{uuid4().hex}"


def at_most(broker: RedisBroker, per_second: float) -> RedisBroker:
    return broker.model_copy(update={"max_per_second": per_second})


async def moment(redis: Redis) -> float:
    """Now in seconds, as Redis has it."""
    seconds, microseconds = await redis.time()
    return float(seconds) + float(microseconds) / 1_000_000


async def fill(broker: RedisBroker, queue: str, count: int) -> None:
    async with broker.connect() as session:
        await session.declare(queue)
        await session.publish(queue, [Message(body=b"%d" % n) for n in range(count)])


async def test_all_consumers_together_keep_to_the_rate_and_all_messages_arrive(
    broker: RedisBroker, redis: Redis, queue: str
):
    rate, total = 40, 120
    slow = at_most(broker, rate)
    await fill(slow, queue, total)
    seen: list[Delivery] = []

    async def consume(session: Session) -> int:
        mine = 0
        while len(seen) < total:
            taken = await session.receive(queue, max_messages=7, wait=timedelta(milliseconds=200))
            seen.extend(taken)
            mine += len(taken)
            # Whatever has come up to now, in the time up to now.
            assert len(seen) <= rate * (await moment(redis) - began) + rate
            await session.settle([Outcome(one, Done()) for one in taken])
        return mine

    async with slow.connect() as one, slow.connect() as other:
        began = await moment(redis)
        shares = await asyncio.wait_for(asyncio.gather(consume(one), consume(other)), timeout=60)
        took = await moment(redis) - began
    assert took >= (total - rate) / rate
    assert sorted(int(one.body) for one in seen) == list(range(total))
    assert sum(shares) == total
    assert {one.deliveries for one in seen} == {1}


async def test_a_consumer_that_waits_gets_its_share_beside_one_that_never_rests(
    broker: RedisBroker, queue: str
):
    slow = at_most(broker, 20)
    await fill(slow, queue, 500)
    async with slow.connect() as greedy, slow.connect() as modest:

        async def devour() -> None:
            while True:
                taken = await greedy.receive(queue, max_messages=1, wait=WAIT)
                await greedy.settle([Outcome(one, Done()) for one in taken])

        devouring = asyncio.create_task(devour())
        for _ in range(3):
            wait = timedelta(seconds=20)
            taken = await modest.receive(queue, max_messages=1, wait=wait)
            assert len(taken) == 1
        devouring.cancel()
        await asyncio.wait([devouring])


async def test_a_wait_ends_in_time_though_messages_are_there(broker: RedisBroker, queue: str):
    slow = at_most(broker, 0.01)
    await fill(slow, queue, 3)
    async with slow.connect() as session:
        assert len(await session.receive(queue, max_messages=9, wait=WAIT)) == 1
        began = time.monotonic()
        wait = timedelta(milliseconds=300)
        assert not await session.receive(queue, max_messages=9, wait=wait)
        assert 0.29 < time.monotonic() - began < 5
        assert (await session.depth(queue)).ready == 2


async def test_what_is_delivered_again_counts_too(broker: RedisBroker, queue: str):
    slow = at_most(broker, 2)
    await fill(slow, queue, 1)
    async with slow.connect() as session:
        for _ in range(2):
            [taken] = await session.receive(queue, max_messages=1, wait=AT_ONCE)
            await session.settle([Outcome(taken, Retry(AT_ONCE))])
        assert not await session.receive(queue, max_messages=1, wait=AT_ONCE)
        assert len(await session.receive(queue, max_messages=1, wait=WAIT)) == 1


async def test_a_reader_below_the_rate_wakes_at_once_in_the_bands_it_wants(
    broker: RedisBroker, queue: str
):
    slow = at_most(broker, 1_000)
    await fill(slow, queue, 0)
    async with slow.connect() as session:
        waiting = asyncio.create_task(
            session.receive(queue, max_messages=1, wait=WAIT, lowest=Band.HIGH)
        )
        await asyncio.wait([waiting], timeout=0.2)
        await session.publish(queue, [Message(body=b"low", priority=9)])
        await session.publish(queue, [Message(body=b"high", priority=0)])
        assert [one.body for one in await waiting] == [b"high"]


async def test_a_clock_that_is_set_back_stops_nobody(broker: RedisBroker, redis: Redis, queue: str):
    slow = at_most(broker, 10)
    await fill(slow, queue, 2)
    tomorrow = int((await moment(redis) + 86_400) * 1_000_000)
    await redis.set(f"{queue}:rate", tomorrow)
    async with slow.connect() as session:
        assert await session.receive(queue, max_messages=1, wait=WAIT)


async def test_the_mark_is_forgotten_when_the_queue_rests(
    broker: RedisBroker, redis: Redis, queue: str
):
    slow = at_most(broker, 10)
    await fill(slow, queue, 1)
    async with slow.connect() as session:
        await session.receive(queue, max_messages=1, wait=WAIT)
    assert 0 < await redis.pttl(f"{queue}:rate") <= 1_001


async def test_a_user_without_the_rights_for_a_limit_is_told(broker: RedisBroker, queue: str):
    poor = at_most(broker.model_copy(update={"username": "poor"}), 10)
    async with poor.connect() as session:
        await session.publish(queue, [Message(body=b"x")])
        with pytest.raises(BrokerRefusedError, match="ACL"):
            await session.receive(queue, max_messages=1, wait=AT_ONCE)
