"""What is made in RabbitMQ, what is only looked for, and how messages come to a queue."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from blocks.broker import Session
from blocks.errors import BrokerRefusedError, MessageNotAllowedError, UnroutableError
from blocks.message import Dead, Delivery, Message, Outcome, Release, Retry
from blocks.rabbitmq_broker import Binding, RabbitMQBroker
from blocks.rabbitmq_broker.delay_ladder import LONGEST_DELAY
from tests.waiting import eventually

WAIT = timedelta(seconds=5)
SOON = timedelta(milliseconds=300)


@pytest.fixture
def broker(rabbitmq_url: str) -> RabbitMQBroker:
    return RabbitMQBroker.from_url(rabbitmq_url)


@pytest.fixture
def channel(rabbitmq_url: str) -> Iterator[BlockingChannel]:
    """RabbitMQ as anybody else sees it."""
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
        yield connection.channel()


@pytest.fixture
def queue() -> str:
    return f"orders-{uuid4().hex}"


@pytest.fixture
async def session(broker: RabbitMQBroker, queue: str) -> AsyncIterator[Session]:
    async with broker.connect() as session:
        await session.declare(queue)
        yield session


async def bodies(session: Session, queue: str, count: int) -> list[bytes]:
    """The bodies of so many messages, sorted, and that no more come."""
    taken: list[Delivery] = []
    while len(taken) < count:
        held = await session.receive(queue, max_messages=count, wait=WAIT)
        assert held
        taken += held
    assert not await session.receive(queue, max_messages=1, wait=SOON)
    return sorted(one.body for one in taken)


def put(channel: BlockingChannel, exchange: str, key: str, body: bytes, **headers: Any) -> None:
    channel.basic_publish(exchange, key, body, pika.BasicProperties(headers=headers or None))


async def test_exchanges_of_every_type_feed_the_queues_that_are_bound_to_them(
    broker: RabbitMQBroker, channel: BlockingChannel, queue: str
):
    shop = f"shop-{uuid4().hex}"
    bindings = [
        Binding(queue=queue, exchange=f"{shop}-direct", routing_key="paid"),
        Binding(
            queue=queue, exchange=f"{shop}-topic", exchange_type="topic", routing_key="order.#"
        ),
        Binding(queue=queue, exchange=f"{shop}-fanout", exchange_type="fanout"),
        Binding(
            queue=queue,
            exchange=f"{shop}-headers",
            exchange_type="headers",
            arguments={"region": "eu", "size": 3, "x-match": "all"},
        ),
        Binding(queue="another", exchange=f"{shop}-unused", exchange_type="fanout"),
    ]
    async with broker.model_copy(update={"bindings": bindings}).connect() as session:
        await session.declare(queue)
        put(channel, f"{shop}-direct", "paid", b"direct")
        put(channel, f"{shop}-direct", "unpaid", b"no")
        put(channel, f"{shop}-topic", "order.eu.paid", b"topic")
        put(channel, f"{shop}-topic", "offer.eu", b"no")
        put(channel, f"{shop}-fanout", "whatever", b"fanout")
        put(channel, f"{shop}-headers", "", b"headers", region="eu", size=3)
        put(channel, f"{shop}-headers", "", b"no", region="us", size=3)
        assert await bodies(session, queue, 4) == [b"direct", b"fanout", b"headers", b"topic"]
    with pytest.raises(ChannelClosedByBroker, match="NOT_FOUND"):
        channel.exchange_declare(f"{shop}-unused", passive=True)


async def test_where_nothing_may_be_made_everything_that_is_missing_is_named(
    broker: RabbitMQBroker, channel: BlockingChannel, queue: str
):
    binding = Binding(queue=queue, exchange=f"{queue}-shop", exchange_type="fanout")
    checking = broker.model_copy(
        update={"declare": False, "bindings": [binding], "dead_letter_exchange": f"{queue}-dlx"}
    )
    async with checking.connect() as session:
        with pytest.raises(BrokerRefusedError, match="set `declare`") as told:
            await session.declare(queue)
        for name in (queue, f"{queue}.dead", f"{queue}-shop", f"{queue}-dlx"):
            assert f"{name!r}" in str(told.value)
        with pytest.raises(BrokerRefusedError, match="lacks"):
            await session.receive(queue, max_messages=1, wait=SOON)
        channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})
        channel.queue_declare(f"{queue}.dead", durable=True)
        channel.exchange_declare(f"{queue}-dlx", "direct", durable=True)
        channel.queue_bind(f"{queue}.dead", f"{queue}-dlx", queue)
        channel.exchange_declare(f"{queue}-shop", "fanout", durable=True)
        channel.queue_bind(queue, f"{queue}-shop")
        await session.declare(queue)
        put(channel, f"{queue}-shop", "", b"x")
        [delivery] = await session.receive(queue, max_messages=1, wait=WAIT)
        dead = Dead(reason="failed", error="broke")
        [settled] = await session.settle([Outcome(delivery, dead)])
        assert settled.error is None
        assert [letter.reason async for letter in session.browse_dead(queue)] == ["failed"]


async def test_where_nothing_may_be_made_delays_and_topics_need_what_an_operator_makes(
    broker: RabbitMQBroker, session: Session, queue: str
):
    await session.publish(queue, [Message(body=b"x", delay=timedelta(milliseconds=250))])
    elsewhere = {"declare": False, "exchange": f"{queue}-topics"}
    async with broker.model_copy(update=elsewhere).connect() as checking:
        with pytest.raises(BrokerRefusedError, match=f"the exchange '{queue}-topics'"):
            await checking.broadcast("news", [Message(body=b"")])
        short = Message(body=b"y", delay=timedelta(milliseconds=300))
        long = Message(body=b"z", delay=timedelta(hours=1))
        held, refused = await checking.publish(queue, [short, long])
        assert held.error is None
        assert isinstance(refused.error, BrokerRefusedError)
        assert f"{queue}.delay.3276800" in str(refused.error)
    assert await bodies(session, queue, 2) == [b"x", b"y"]


async def test_a_message_for_a_queue_that_is_not_there_is_told_and_its_neighbours_arrive(
    session: Session, queue: str
):
    [lost, too_late] = await session.publish(
        f"{queue}-nowhere",
        [Message(body=b"x"), Message(body=b"y", delay=LONGEST_DELAY + WAIT)],
    )
    assert isinstance(lost.error, UnroutableError)
    assert "declare it first" in str(lost.error)
    assert isinstance(too_late.error, MessageNotAllowedError)
    [good] = await session.publish(queue, [Message(body=b"good")])
    assert good.error is None


async def test_delays_of_one_queue_share_a_ladder_and_come_each_in_its_time(
    broker: RabbitMQBroker, session: Session, queue: str
):
    delays = (1_500, 100, 700)
    await session.publish(
        queue,
        [Message(body=str(one).encode(), delay=timedelta(milliseconds=one)) for one in delays],
    )
    async with broker.connect() as onlooker:
        assert (await onlooker.depth(queue)).delayed >= 2
    arrived: list[bytes] = []
    while len(arrived) < 3:
        held = await session.receive(queue, max_messages=3, wait=WAIT)
        arrived += [one.body for one in held]
    assert arrived == [b"100", b"700", b"1500"]


async def test_a_release_for_longer_than_any_ladder_is_held_as_long_as_it_reaches(
    session: Session, queue: str
):
    await session.publish(queue, [Message(body=b"a"), Message(body=b"b")])
    release, retry = await session.receive(queue, max_messages=2, wait=WAIT)
    far = LONGEST_DELAY + timedelta(days=100)
    released, retried = await session.settle(
        [Outcome(release, Release(far)), Outcome(retry, Retry(far))]
    )
    assert released.error is None
    assert isinstance(retried.error, MessageNotAllowedError)
    assert await session.renew([retry]) == [retry]

    async def counted() -> bool:
        depth = await session.depth(queue)
        return (depth.delayed, depth.in_flight) == (1, 1)

    await eventually(counted, description="one to be delayed and one in flight")


async def test_a_letter_that_rabbitmq_buried_itself_is_shown_redriven_and_discarded(
    channel: BlockingChannel, session: Session, queue: str
):
    for number in range(3):
        properties = pika.BasicProperties(message_id=f"m{number}", expiration="1")
        channel.basic_publish("", queue, b"stale", properties)

    async def buried() -> bool:
        return (await session.depth(queue)).dead == 3

    await eventually(buried, description="messages to expire")
    letters = [letter async for letter in session.browse_dead(queue)]
    assert {(one.reason, one.body, one.queue) for one in letters} == {("expired", b"stale", queue)}
    first, second, _ = letters
    again = Message(body=b"fresh", id=first.id, generation=1)
    handles = {first.handle: again, second.handle: None}
    assert list(await session.settle_dead(queue, handles)) == [first.handle, second.handle]
    assert await bodies(session, queue, 1) == [b"fresh"]
    assert (await session.depth(queue)).dead == 1


async def test_two_who_look_at_the_dead_letters_at_once_see_all_of_them(
    broker: RabbitMQBroker, session: Session, queue: str
):
    await session.publish(queue, [Message(body=b"x")] * 20)
    dead = Dead(reason="failed", error="broke")
    while held := await session.receive(queue, max_messages=20, wait=SOON):
        await session.settle([Outcome(one, dead) for one in held])
    async with broker.connect() as other:

        async def look(looking: Session) -> int:
            return len([letter async for letter in looking.browse_dead(queue)])

        for _ in range(5):
            counts = await asyncio.gather(look(session), look(other), look(session))
            assert counts == [20, 20, 20]
