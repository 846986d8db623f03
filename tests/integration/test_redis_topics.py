"""Topics on Redis: streams that anybody may add to, and what becomes of their entries."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from blocks.broker import Session
from blocks.errors import BrokerRefusedError, BrokerUnavailableError, QueueNameError
from blocks.message import Done, Message, Outcome
from blocks.redis_broker import RedisBroker, reader
from tests.servers.proxies.tcp_proxy import TcpProxy
from tests.servers.redis_server import RedisServer
from tests.waiting import eventually

WAIT = timedelta(seconds=5)
AT_ONCE = timedelta(0)


@pytest.fixture
def broker(redis_server: RedisServer) -> RedisBroker:
    return RedisBroker.from_url(redis_server.url)


@pytest.fixture
async def session(broker: RedisBroker) -> AsyncIterator[Session]:
    async with broker.connect() as session:
        yield session


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis(port=redis_server.port) as client:
        yield client


@pytest.fixture
def queue() -> str:
    return f"orders-{uuid4().hex}"


@pytest.fixture
def topic() -> str:
    return f"news-{uuid4().hex}"


async def add(redis: Redis, topic: str, **fields: str) -> str:
    """XADD to a topic, as any client does it."""
    entry = await redis.xadd(f"{topic}:topic", {**fields})
    assert isinstance(entry, bytes)
    return entry.decode()


async def bodies(session: Session, queue: str, most: int = 100) -> list[bytes]:
    """Take and settle what there is."""
    taken = await session.receive(queue, max_messages=most, wait=AT_ONCE)
    await session.settle([Outcome(one, Done()) for one in taken])
    return [one.body for one in taken]


async def test_what_anybody_adds_to_the_stream_comes_to_every_subscriber(
    redis: Redis, session: Session, queue: str, topic: str
):
    names = [queue, f"{queue}-other"]
    for name in names:
        await session.subscribe(name, topic)
    entry = await add(redis, topic, body="hello", colour="red")
    for name in names:
        [delivery] = await session.receive(name, max_messages=9, wait=WAIT)
        assert (delivery.id, delivery.body) == (f"{topic}-{entry}", b"hello")
        assert (delivery.headers, delivery.priority) == ({"colour": "red"}, 4)
        assert int(delivery.published_at.timestamp() * 1_000) == int(entry.split("-")[0])


async def test_a_blocked_reader_wakes_for_a_topic_and_for_its_queue(
    redis: Redis, broker: RedisBroker, queue: str, topic: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reader, "_LOOK_AGAIN", 60)
    async with broker.model_copy(update={"timeout_seconds": 120.0}).connect() as session:
        await session.subscribe(queue, topic)
        for key in (f"{topic}:topic", queue, f"{queue}:low", f"{topic}:topic"):
            waiting = asyncio.create_task(
                session.receive(queue, max_messages=1, wait=timedelta(seconds=60))
            )
            await asyncio.wait([waiting], timeout=0.2)
            await redis.xadd(key, {"body": key})
            [delivery] = await asyncio.wait_for(waiting, timeout=10)
            assert delivery.body == key.encode()


async def test_priorities_and_delays_of_a_broadcast_are_kept(
    redis: Redis, session: Session, queue: str, topic: str
):
    await session.subscribe(queue, topic)
    later = Message(body=b"later", delay=timedelta(milliseconds=300))
    await session.broadcast(
        topic, [Message(body=b"low", priority=8), Message(body=b"high", priority=1), later]
    )
    await add(redis, topic, body="odd", priority="12")
    taken = await session.receive(queue, max_messages=9, wait=AT_ONCE)
    assert [(one.body, one.priority) for one in taken] == [(b"high", 1), (b"odd", 4), (b"low", 8)]
    assert (await session.depth(queue)).delayed == 1
    [last] = await session.receive(queue, max_messages=9, wait=WAIT)
    assert (last.body, last.headers) == (b"later", {})


async def test_any_session_counts_what_waits_in_the_topic_and_how_long(
    redis: Redis, session: Session, broker: RedisBroker, queue: str, topic: str
):
    await session.subscribe(queue, topic)
    await session.subscribe(f"{queue}-other", topic)
    entries = [await add(redis, topic, body=f"{n}") for n in range(5)]
    await bodies(session, f"{queue}-other")
    async with broker.connect() as stranger:
        depth = await stranger.depth(queue)
        assert (depth.ready, depth.in_flight) == (5, 0)
        assert depth.oldest_age is not None
        assert (await stranger.depth(f"{queue}-other")).ready == 0
        assert len(await bodies(session, queue, most=2)) == 2
        assert (await stranger.depth(queue)).ready == 3
        await add(redis, topic, body="more")
        last = await add(redis, topic, body="deleted")
        await redis.xdel(f"{topic}:topic", last)
        assert (await stranger.depth(queue)).ready == 4
    assert len(entries) == 5


async def test_an_entry_stays_until_every_subscriber_has_taken_it(
    redis: Redis, session: Session, queue: str, topic: str
):
    await session.subscribe(queue, topic)
    await session.subscribe(f"{queue}-other", topic)
    for n in range(10):
        await add(redis, topic, body=f"{n}")
    assert len(await bodies(session, queue)) == 10
    assert await redis.xlen(f"{topic}:topic") == 10
    assert len(await bodies(session, f"{queue}-other")) == 10
    assert await redis.xlen(f"{topic}:topic") == 0


async def test_what_a_reader_of_another_kind_holds_pending_is_not_dropped(
    redis: Redis, session: Session, queue: str, topic: str
):
    await session.subscribe(queue, topic)
    stream = f"{topic}:topic"
    await redis.xgroup_create(stream, "theirs", id="0")
    entries = [await add(redis, topic, body=f"{n}") for n in range(4)]
    await redis.xreadgroup("theirs", "someone", {stream: ">"})
    await redis.xack(stream, "theirs", entries[0])
    assert len(await bodies(session, queue)) == 4
    left: Any = await redis.xrange(stream)
    assert [entry.decode() for entry, _ in left] == entries[1:]


async def test_nothing_is_kept_of_a_broadcast_that_nobody_has_subscribed_to(
    redis: Redis, session: Session, queue: str, topic: str
):
    await session.broadcast(topic, [Message(body=b"unheard")] * 10)
    assert not await redis.exists(f"{topic}:topic")
    await add(redis, topic, body="before")
    await session.subscribe(queue, topic)
    assert await bodies(session, queue) == []
    async with asyncio.timeout(5):
        await session.broadcast(topic, [Message(body=b"after")])
        assert await bodies(session, queue) == [b"after"]
    assert await redis.xlen(f"{topic}:topic") == 0


async def test_a_topic_that_somebody_deletes_goes_on_with_what_comes_then(
    redis: Redis, session: Session, queue: str, topic: str
):
    await session.subscribe(queue, topic)
    await add(redis, topic, body="deleted")
    await redis.delete(f"{topic}:topic")
    await add(redis, topic, body="new")
    assert await bodies(session, queue) == [b"new"]


async def test_an_entry_with_too_many_fields_does_not_keep_back_the_next_one(
    redis: Redis, session: Session, queue: str, topic: str
):
    await session.subscribe(queue, topic)
    await add(redis, topic, **{f"field{n}": "" for n in range(5_000)}, body="last")
    await add(redis, topic, body="next")
    assert await bodies(session, queue) == [b"last", b"next"]


async def test_large_bodies_are_moved_a_few_at_a_time_and_all_arrive(
    session: Session, queue: str, topic: str
):
    await session.subscribe(queue, topic)
    await session.broadcast(topic, [Message(body=bytes(3_000_000)) for _ in range(6)])
    first = await session.receive(queue, max_messages=9, wait=AT_ONCE)
    assert 1 <= len(first) < 6
    await session.settle([Outcome(one, Done()) for one in first])
    rest: list[bytes] = []
    while len(rest) < 6 - len(first):
        rest += await bodies(session, queue)
    assert (await session.depth(queue)).ready == 0


async def test_a_full_server_leaves_in_the_topic_what_cannot_be_moved(queue: str, topic: str):
    with RedisServer() as small:
        async with (
            RedisBroker.from_url(small.url).connect() as session,
            Redis(port=small.port) as redis,
        ):
            await session.declare(queue)
            await session.subscribe(queue, topic)
            await session.broadcast(topic, [Message(body=b"%d" % n) for n in range(3)])
            await redis.config_set("maxmemory", "1mb")
            assert await bodies(session, queue) == []
            with pytest.raises(BrokerUnavailableError, match="raise `maxmemory`"):
                await session.broadcast(topic, [Message(body=b"more")])
            assert (await session.depth(queue)).ready == 3
            await redis.config_set("maxmemory", "0")
            assert await bodies(session, queue) == [b"0", b"1", b"2"]


async def test_every_copy_arrives_while_connections_are_cut(
    redis_server: RedisServer, broker: RedisBroker, session: Session, queue: str, topic: str
):
    names = [queue, f"{queue}-other"]
    for name in names:
        await session.subscribe(name, topic)
    outcomes = await session.broadcast(topic, [Message(body=b"x")] * 500)
    seen = {name: Counter[str]() for name in names}

    async def consume(name: str, subscriber: Session) -> None:
        while len(seen[name]) < 500:
            try:
                taken = await subscriber.receive(name, max_messages=20, wait=WAIT)
                seen[name].update(one.id for one in taken)
                await subscriber.settle([Outcome(one, Done()) for one in taken])
            except BrokerUnavailableError:
                await asyncio.sleep(0.02)

    with TcpProxy(redis_server.port) as proxy:
        behind = broker.model_copy(update={"port": proxy.port})
        async with behind.connect() as one, behind.connect() as two:
            working = [
                asyncio.create_task(consume(name, subscriber))
                for name in names
                for subscriber in (one, two)
            ]
            for _ in range(5):
                await asyncio.wait(working, timeout=0.05)
                proxy.cut()
            await asyncio.wait_for(asyncio.gather(*working), timeout=60)
    for name in names:
        assert set(seen[name]) == {outcome.id for outcome in outcomes}


async def test_a_key_of_another_kind_is_refused_before_anything_is_taken(
    redis: Redis, session: Session, queue: str, topic: str
):
    await redis.set(f"{topic}:topic", "not a stream")
    with pytest.raises(BrokerRefusedError, match="holds something else"):
        await session.subscribe(queue, topic)


@pytest.mark.parametrize("name", ["orders:topic", "orders:topics", "orders:rate"])
async def test_a_key_of_a_topic_is_no_queue(session: Session, name: str):
    with pytest.raises(QueueNameError, match="is a key of the queue"):
        await session.declare(name)


async def test_a_subscriber_that_was_dismissed_by_hand_holds_nothing_up(
    redis: Redis, session: Session, queue: str, topic: str
):
    await session.subscribe(queue, topic)
    await session.subscribe(f"{queue}-gone", topic)
    await redis.srem(f"{queue}-gone:topics", topic)
    await redis.xgroup_destroy(f"{topic}:topic", f"{queue}-gone")
    await session.broadcast(topic, [Message(body=b"x")])
    assert await bodies(session, queue) == [b"x"]

    async def is_empty() -> bool:
        return await redis.xlen(f"{topic}:topic") == 0

    await eventually(is_empty, description="the topic to be empty")
    assert await bodies(session, f"{queue}-gone") == []
