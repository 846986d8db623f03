"""Redis that stalls, is cut off, full, flushed, demoted; and consumers that are killed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from blocks.broker import Session
from blocks.errors import BrokerRefusedError, BrokerUnavailableError
from blocks.message import Delivery, Done, Message, Outcome, Retry
from blocks.redis_broker import RedisBroker
from tests.conformance.holder import holder
from tests.servers.proxies.tcp_proxy import TcpProxy
from tests.servers.redis_server import RedisServer
from tests.waiting import eventually

WAIT = timedelta(seconds=5)
AT_ONCE = timedelta(0)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer(durable=True) as server:
        yield server


@pytest.fixture
def broker(server: RedisServer) -> RedisBroker:
    """One that loses patience fast, so that a test needn't have it."""
    url = f"{server.url}?lease_seconds=1"
    return RedisBroker.from_url(url).model_copy(update={"timeout_seconds": 1.0})


@pytest.fixture
async def session(broker: RedisBroker) -> AsyncIterator[Session]:
    async with broker.connect() as session:
        yield session


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis(port=server.port) as client:
        yield client


@pytest.fixture
def queue() -> str:
    return f"orders-{uuid4().hex}"


async def consume(session: Session, queue: str, seen: Counter[str], total: int) -> None:
    """Take and settle through all faults until `total` different messages have been seen."""
    while len(seen) < total:
        try:
            held = await session.receive(queue, max_messages=10, wait=timedelta(milliseconds=200))
            seen.update(one.id for one in held)
            await session.settle([Outcome(one, Done()) for one in held])
        except BrokerUnavailableError:
            await asyncio.sleep(0.02)


async def test_a_stalled_server_hangs_nobody_and_what_it_gave_out_meanwhile_is_not_counted(
    server: RedisServer, session: Session, queue: str
):
    await session.publish(queue, [Message(body=b"x")])
    server.stall()
    try:
        async with asyncio.timeout(3):
            with pytest.raises(BrokerUnavailableError):
                await session.receive(queue, max_messages=1, wait=WAIT)
    finally:
        server.resume()
    [delivery] = await session.receive(queue, max_messages=1, wait=WAIT)
    assert delivery.deliveries == 1


async def test_a_connection_that_hangs_is_noticed_while_a_reader_waits(
    server: RedisServer, broker: RedisBroker, queue: str
):
    with TcpProxy(server.port) as proxy:
        async with broker.model_copy(update={"port": proxy.port}).connect() as session:
            receiving = asyncio.create_task(session.receive(queue, max_messages=1, wait=WAIT))
            await asyncio.wait([receiving], timeout=0.3)
            proxy.stall()
            with pytest.raises(BrokerUnavailableError):
                await asyncio.wait_for(receiving, timeout=3)
            proxy.heal()
            proxy.cut()
            await session.publish(queue, [Message(body=b"x")])
            assert len(await session.receive(queue, max_messages=1, wait=WAIT)) == 1


async def test_kills_stalls_and_cuts_together_lose_nothing(
    server: RedisServer, broker: RedisBroker, session: Session, queue: str
):
    outcomes = await session.publish(queue, [Message(body=b"x")] * 300)
    ids = {outcome.id for outcome in outcomes}
    seen: Counter[str] = Counter()
    with TcpProxy(server.port) as proxy:
        behind = broker.model_copy(update={"port": proxy.port})
        async with holder(behind, queue, 40) as held, behind.connect() as worker:
            assert set(held) <= ids
            working = asyncio.create_task(consume(worker, queue, seen, 300))
            for _ in range(3):
                proxy.cut()
                await asyncio.wait([working], timeout=0.05)
            server.stall()
            # Longer than a lease.
            await asyncio.wait([working], timeout=1.5)
            server.resume()
            server.kill()
            await asyncio.to_thread(server.start)
        # The holder is dead by now; its forty come to whoever is left.
        async with broker.connect() as heir:
            await asyncio.wait_for(consume(heir, queue, seen, 300), timeout=30)
        await asyncio.wait([working], timeout=10)
        working.cancel()
    assert set(seen) == ids


async def test_the_count_of_a_poison_message_goes_up_by_one_for_each_consumer_it_kills(
    broker: RedisBroker, session: Session, queue: str
):
    await session.publish(queue, [Message(body=b"poison")])
    for _ in range(2):
        async with holder(broker, queue, 1):
            pass
    [delivery] = await session.receive(queue, max_messages=1, wait=WAIT)
    assert delivery.deliveries == 3


async def test_a_flushed_server_is_used_again_at_once(session: Session, redis: Redis, queue: str):
    await session.publish(queue, [Message(body=b"gone")] * 2)
    [held] = await session.receive(queue, max_messages=1, wait=WAIT)
    waiting = asyncio.create_task(session.receive(f"{queue}-2", max_messages=1, wait=WAIT))
    await asyncio.wait([waiting], timeout=0.3)
    await redis.flushall()
    [settled] = await session.settle([Outcome(held, Done())])
    assert "no longer held" in str(settled.error)
    assert not await session.renew([held])
    assert (await session.depth(queue)).ready == 0
    await session.publish(queue, [Message(body=b"new")])
    await session.publish(f"{queue}-2", [Message(body=b"newer")])
    assert [one.body for one in await waiting] == [b"newer"]
    assert [one.body for one in await drain(session, queue)] == [b"new"]


async def drain(session: Session, queue: str) -> list[Delivery]:
    return list(await session.receive(queue, max_messages=10, wait=WAIT))


async def test_a_full_server_says_so_and_what_it_holds_can_still_be_settled(
    session: Session, redis: Redis, queue: str
):
    await session.publish(queue, [Message(body=b"x"), Message(body=b"y")])
    done, retried = await session.receive(queue, max_messages=2, wait=WAIT)
    await redis.config_set("maxmemory", "1mb")
    with pytest.raises(BrokerUnavailableError, match="raise `maxmemory`"):
        await session.publish(queue, [Message(body=b"z")])
    [stuck] = await session.settle([Outcome(retried, Retry(AT_ONCE))])
    assert isinstance(stuck.error, BrokerUnavailableError)
    [freed] = await session.settle([Outcome(done, Done())])
    assert freed.error is None
    await redis.config_set("maxmemory", "0")
    assert len(await session.renew([retried])) == 1


async def test_due_messages_wait_while_the_server_is_full(
    session: Session, redis: Redis, queue: str
):
    await session.declare(queue)
    await session.publish(queue, [Message(body=b"x", delay=timedelta(milliseconds=50))])
    await redis.config_set("maxmemory", "1mb")
    assert not await session.receive(queue, max_messages=1, wait=timedelta(milliseconds=300))
    await redis.config_set("maxmemory", "0")
    assert len(await session.receive(queue, max_messages=1, wait=WAIT)) == 1


async def test_a_replica_after_a_fail_over_is_unavailable_until_it_is_the_master_again(
    session: Session, redis: Redis, queue: str
):
    await session.declare(queue)
    await redis.replicaof("127.0.0.1", 1)
    with pytest.raises(BrokerUnavailableError, match="replica"):
        await session.publish(queue, [Message(body=b"x")])
    await redis.replicaof("NO", "ONE")
    [outcome] = await session.publish(queue, [Message(body=b"x")])
    assert outcome.error is None


async def test_a_key_of_another_kind_is_refused(session: Session, redis: Redis, queue: str):
    await redis.set(queue, "not a stream")
    with pytest.raises(BrokerRefusedError, match="choose another queue name"):
        await session.declare(queue)
    with pytest.raises(BrokerRefusedError, match="choose another queue name"):
        await session.publish(queue, [Message(body=b"x")])


async def test_a_session_ends_quickly_while_nobody_answers(
    server: RedisServer, broker: RedisBroker, queue: str, caplog: pytest.LogCaptureFixture
):
    async with broker.connect() as leaving:
        await leaving.publish(queue, [Message(body=b"x")])
        await leaving.receive(queue, max_messages=1, wait=WAIT)
        server.kill()
    assert "comes again when its lease ends" in caplog.text
    await asyncio.to_thread(server.start)

    async def comes_again() -> bool:
        async with broker.connect() as heir:
            return bool(await heir.receive(queue, max_messages=1, wait=AT_ONCE))

    await eventually(comes_again, description="the message whose holder has gone")
