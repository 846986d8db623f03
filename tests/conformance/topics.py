"""Topics: a copy for each queue that has subscribed, and none of them knows of the others."""

from uuid import uuid4

import pytest

from blocks.broker import Broker, Session
from blocks.errors import QueueNameError, UnsupportedError
from blocks.message import Dead, Delivery, Done, Message, Retry
from tests.conformance.fixtures import BrokerFixtures
from tests.conformance.moves import AT_ONCE, ms, settle, take, wait_for_depth


async def subscribe(session: Session, queue: str, topic: str) -> None:
    """Declare a queue and subscribe it, as a consumer does when it begins."""
    await session.declare(queue)
    await session.subscribe(queue, topic)


async def broadcast(session: Session, topic: str, *messages: Message) -> list[str]:
    """Broadcast, demand that each message was accepted, and return the ids."""
    outcomes = await session.broadcast(topic, messages)
    assert [outcome.error for outcome in outcomes] == [None] * len(messages)
    return [outcome.id for outcome in outcomes if outcome.id]


async def refused_for_want_of_topics(session: Session, queue: str, broker: Broker) -> bool:
    """Where the provider has no topics, assert that it says so."""
    if broker.capabilities.topics:
        return False
    with pytest.raises(UnsupportedError):
        await session.subscribe(queue, "news")
    with pytest.raises(UnsupportedError):
        await session.broadcast("news", [Message(body=b"")])
    return True


def numbers(deliveries: list[Delivery]) -> list[bytes]:
    """The bodies, sorted: copies may be delivered in any order."""
    return sorted(one.body for one in deliveries)


@pytest.mark.capability("topics")
class TopicConformance(BrokerFixtures):
    """What publishers to many, and their subscribers, rely on."""

    @pytest.fixture
    def topic(self) -> str:
        """A topic of three words that no other test knows."""
        return f"orders.t{uuid4().hex[:12]}.eu"

    @pytest.fixture
    def other(self, queue: str) -> str:
        """A second queue."""
        return f"{queue}-other"

    async def test_every_subscriber_has_a_copy_under_the_same_id(
        self, session: Session, queue: str, broker: Broker, topic: str, other: str
    ):
        if await refused_for_want_of_topics(session, queue, broker):
            return
        await subscribe(session, queue, topic)
        await subscribe(session, other, topic)
        message = Message(body=b"news", headers={"region": "Zoë"}, key="k")
        [told] = await broadcast(session, topic, message)
        [mine] = await take(session, queue, 1)
        [yours] = await take(session, other, 1)
        assert (mine.id, mine.queue, yours.id, yours.queue) == (told, queue, told, other)
        for copy in (mine, yours):
            assert (copy.body, dict(copy.headers), copy.key) == (b"news", {"region": "Zoë"}, "k")
            assert (copy.deliveries, copy.generation) == (1, 0)
            await settle(session, Done(), copy)
        await wait_for_depth(session, queue, (0, 0, 0, 0))
        await wait_for_depth(session, other, (0, 0, 0, 0))

    async def test_what_one_subscriber_does_with_its_copy_is_no_matter_of_the_other(
        self, session: Session, queue: str, broker: Broker, topic: str, other: str
    ):
        if await refused_for_want_of_topics(session, queue, broker):
            return
        await subscribe(session, queue, topic)
        await subscribe(session, other, topic)
        await broadcast(session, topic, *(Message(body=b"%d" % n) for n in range(3)))
        mine = await take(session, queue, 3)
        await settle(session, Retry(AT_ONCE), mine[0])
        await settle(session, Dead(reason="failed", error="broke"), mine[1])
        await settle(session, Done(), mine[2])
        [again] = await take(session, queue, 1)
        assert (again.id, again.deliveries) == (mine[0].id, 2)
        yours = await take(session, other, 3)
        assert numbers(yours) == [b"0", b"1", b"2"]
        assert {one.deliveries for one in yours} == {1}
        assert not await session.receive(other, max_messages=1, wait=ms(300))
        assert [one.id async for one in session.browse_dead(queue)] == [mine[1].id]
        assert [one.id async for one in session.browse_dead(other)] == []

    async def test_a_subscription_outlasts_its_session_and_may_be_made_again(
        self, session: Session, patient: Broker, queue: str, broker: Broker, topic: str
    ):
        if await refused_for_want_of_topics(session, queue, broker):
            return
        async with patient.connect() as first:
            await subscribe(first, queue, topic)
            await broadcast(first, topic, Message(body=b"1"))
            await settle(first, Done(), *await take(first, queue, 1))
        await broadcast(session, topic, Message(body=b"2"), Message(body=b"3"))
        async with patient.connect() as second:
            await subscribe(second, queue, topic)
            await subscribe(second, queue, topic)
            await broadcast(session, topic, Message(body=b"4"))
            arrived = await take(second, queue, 3)
            assert numbers(arrived) == [b"2", b"3", b"4"]
            await settle(second, Done(), *arrived)
            assert not await second.receive(queue, max_messages=1, wait=ms(300))

    async def test_consumers_of_one_subscribed_queue_share_its_copies(
        self, session: Session, patient: Broker, queue: str, broker: Broker, topic: str
    ):
        if await refused_for_want_of_topics(session, queue, broker):
            return
        await subscribe(session, queue, topic)
        async with patient.connect() as colleague:
            await subscribe(colleague, queue, topic)
            await broadcast(session, topic, *(Message(body=b"%02d" % n) for n in range(40)))
            seen: list[Delivery] = []
            while len(seen) < 40:
                for one in (session, colleague):
                    taken = await one.receive(queue, max_messages=5, wait=ms(200))
                    await settle(one, Done(), *taken)
                    seen += taken
        assert numbers(seen) == [b"%02d" % n for n in range(40)]

    async def test_a_queue_takes_what_is_published_to_it_beside_its_topics(
        self, session: Session, queue: str, broker: Broker, topic: str
    ):
        if await refused_for_want_of_topics(session, queue, broker):
            return
        await subscribe(session, queue, topic)
        await subscribe(session, queue, f"{topic}.second")
        await broadcast(session, topic, Message(body=b"1"))
        await broadcast(session, f"{topic}.second", Message(body=b"2"))
        await session.publish(queue, [Message(body=b"3")])
        assert numbers(await take(session, queue, 3)) == [b"1", b"2", b"3"]

    async def test_without_a_subscriber_a_broadcast_is_accepted(
        self, session: Session, queue: str, broker: Broker, topic: str
    ):
        if await refused_for_want_of_topics(session, queue, broker):
            return
        assert await broadcast(session, topic, Message(body=b"into the blue"))
        assert list(await session.broadcast(topic, [])) == []

    async def test_a_bad_topic_name_is_refused(self, session: Session, queue: str, broker: Broker):
        if await refused_for_want_of_topics(session, queue, broker):
            return
        for name in ("", "a\x00b", "line\nbreak", "x" * 300, "\ud800"):
            with pytest.raises(QueueNameError):
                await session.subscribe(queue, name)
            with pytest.raises(QueueNameError):
                await session.broadcast(name, [Message(body=b"")])

    @pytest.mark.capability("topic_patterns")
    async def test_a_pattern_takes_the_topics_that_match_it(
        self, session: Session, queue: str, broker: Broker, topic: str, other: str
    ):
        if await refused_for_want_of_topics(session, queue, broker):
            return
        head, middle, _ = topic.split(".")
        if not broker.capabilities.topic_patterns:
            for pattern in (f"{head}.*.eu", f"{head}.#", "#"):
                with pytest.raises(UnsupportedError):
                    await session.subscribe(queue, pattern)
            return
        # Topics that are there when the subscription is made, and one that comes later.
        await broadcast(session, f"{head}.{middle}.eu", Message(body=b"before"))
        await subscribe(session, queue, f"{head}.{middle}.*")
        await subscribe(session, other, f"{head}.{middle}.#")
        for tail in (".eu", ".us", ".us.west", ""):
            await broadcast(session, f"{head}.{middle}{tail}", Message(body=tail.encode()))
        await broadcast(session, f"{head}.{middle}x.eu", Message(body=b"another"))
        mine = [one.body for one in await take(session, queue, 2)]
        assert sorted(mine) == [b".eu", b".us"]
        yours = [one.body for one in await take(session, other, 4)]
        assert sorted(yours) == [b"", b".eu", b".us", b".us.west"]
        assert not await session.receive(queue, max_messages=1, wait=ms(300))
        assert not await session.receive(other, max_messages=1, wait=ms(300))
