"""Producers who know Redis, and nothing of this package."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from blocks.broker import Session
from blocks.message import Dead, Done, Outcome, Retry
from blocks.redis_broker import RedisBroker
from tests.servers.redis_server import RedisServer
from tests.waiting import eventually

WAIT = timedelta(seconds=5)
AT_ONCE = timedelta(0)


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis(port=redis_server.port) as client:
        yield client


@pytest.fixture
async def session(redis_server: RedisServer) -> AsyncIterator[Session]:
    async with RedisBroker.from_url(redis_server.url).connect() as session:
        yield session


@pytest.fixture
def queue() -> str:
    return f"orders-{uuid4().hex}"


async def add(redis: Redis, key: str, **fields: str) -> str:
    """XADD, as any client does it."""
    entry = await redis.xadd(key, {**fields})
    assert isinstance(entry, bytes)
    return entry.decode()


async def test_what_was_added_before_anybody_declared_the_queue_is_delivered(
    redis: Redis, session: Session, queue: str
):
    entry = await add(redis, queue, body="early")
    [delivery] = await session.receive(queue, max_messages=5, wait=WAIT)
    assert (delivery.id, delivery.body, delivery.deliveries) == (entry, b"early", 1)


async def test_its_stream_id_stays_its_id_through_retry_and_dead_letters(
    redis: Redis, session: Session, queue: str
):
    entry = await add(redis, f"{queue}:low", body="x", tenant="acme")
    [first] = await session.receive(queue, max_messages=1, wait=WAIT)
    await session.settle([Outcome(first, Retry(AT_ONCE))])
    [second] = await session.receive(queue, max_messages=1, wait=WAIT)
    await session.settle([Outcome(second, Dead(reason="failed", error="broke \ud800"))])
    [letter] = [letter async for letter in session.browse_dead(queue)]
    assert first.id == second.id == letter.id == f"low-{entry}"
    assert first.published_at == second.published_at == letter.published_at
    assert (letter.deliveries, letter.priority, letter.headers) == (2, 8, {"tenant": "acme"})
    assert letter.error == "broke ?"


@pytest.mark.parametrize("nonsense", ["nan", "-1", "0x10", "9" * 30, "1.5", ""])
async def test_a_delivery_count_that_is_no_number_starts_at_none(
    redis: Redis, session: Session, queue: str, nonsense: str
):
    await add(redis, queue, body="x", deliveries=nonsense)
    [first] = await session.receive(queue, max_messages=1, wait=WAIT)
    await session.settle([Outcome(first, Retry(AT_ONCE))])
    [second] = await session.receive(queue, max_messages=1, wait=WAIT)
    assert (first.deliveries, second.deliveries) == (1, 2)


async def test_an_entry_without_a_body_is_delivered_with_its_fields_as_headers(
    redis: Redis, session: Session, queue: str
):
    await add(redis, queue, colour="red")
    [delivery] = await session.receive(queue, max_messages=1, wait=WAIT)
    assert (delivery.body, delivery.headers) == (b"", {"colour": "red"})


async def test_an_entry_that_somebody_deletes_while_it_is_held_is_gone(
    redis: Redis, session: Session, queue: str
):
    for body in ("a", "b", "c"):
        await add(redis, queue, body=body)
    renewed, retried, done = await session.receive(queue, max_messages=3, wait=WAIT)
    await redis.xdel(queue, renewed.id, retried.id, done.id)
    assert not await session.renew([renewed])
    lost, settled = await session.settle([Outcome(retried, Retry(AT_ONCE)), Outcome(done, Done())])
    assert "no longer held" in str(lost.error)
    assert settled.error is None
    assert (await session.depth(queue)).in_flight == 0


async def test_an_entry_deleted_after_its_holder_died_disturbs_nobody(
    redis: Redis, session: Session, queue: str
):
    await session.declare(queue)
    entry = await add(redis, queue, body="deleted")
    await add(redis, queue, body="kept")
    await redis.xreadgroup("noa", "somebody:1", {queue: ">"}, count=1)
    await redis.xdel(queue, entry)
    [delivery] = await session.receive(queue, max_messages=5, wait=WAIT)
    assert delivery.body == b"kept"

    async def only_the_kept_one_is_pending() -> bool:
        assert not await session.receive(queue, max_messages=5, wait=timedelta(0))
        return (await redis.xpending(queue, "noa"))["pending"] == 1

    await eventually(only_the_kept_one_is_pending, description="the deleted entry to be dropped")


async def test_a_dead_letter_written_by_hand_is_shown(redis: Redis, session: Session, queue: str):
    entry = await add(redis, f"{queue}:dead", body="x")
    [letter] = [letter async for letter in session.browse_dead(queue)]
    assert (letter.handle, letter.id, letter.body, letter.reason) == (entry, entry, b"x", "")


async def test_an_entry_with_too_many_fields_to_be_moved_says_so_and_can_be_done_with(
    redis: Redis, session: Session, queue: str
):
    await add(redis, queue, body="x", **{f"field{n}": "" for n in range(5_000)})
    await add(redis, queue, body="neighbour")
    huge, neighbour = await session.receive(queue, max_messages=2, wait=WAIT)
    dead = Dead(reason="schema", error="what is this")
    stays, moved = await session.settle([Outcome(huge, dead), Outcome(neighbour, dead)])
    assert "too many fields" in str(stays.error)
    assert moved.error is None
    [done] = await session.settle([Outcome(huge, Done())])
    assert done.error is None


@pytest.mark.parametrize("member", ["plain text", f"{10**21:022d}", f"{10**21:022d}\x93\x01"])
async def test_whatever_somebody_delays_by_hand_is_delivered_as_a_body(
    redis: Redis, session: Session, queue: str, member: str
):
    await redis.zadd(f"{queue}:delayed", {member: 0})
    [delivery] = await session.receive(queue, max_messages=1, wait=WAIT)
    assert delivery.body == member.encode()
    assert (await session.depth(queue)).delayed == 0
