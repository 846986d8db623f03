"""Publishing: an outcome each, nothing altered on the way, priorities and delays."""

import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blocks.broker import Broker, Session
from blocks.errors import (
    MessageNotAllowedError,
    MessageTooLargeError,
    QueueNameError,
    UnsupportedError,
)
from blocks.message import Delivery, Done, Message
from tests.conformance.fixtures import BrokerFixtures
from tests.conformance.moves import AT_ONCE, ms, publish, settle, take, wait_for_depth

HEADER_NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20)
MESSAGES = st.builds(
    Message,
    body=st.binary(max_size=2_000),
    headers=st.dictionaries(HEADER_NAMES, st.text(max_size=50), max_size=5),
    key=st.none() | st.text(min_size=1, max_size=20),
)


def content(one: Message | Delivery) -> tuple[bytes, dict[str, str], str | None, int]:
    """What must arrive as it was sent."""
    return one.body, dict(one.headers), one.key, one.priority


class PublishingConformance(BrokerFixtures):
    """What a publisher relies on."""

    async def test_a_message_arrives_under_the_id_that_its_publisher_was_told(
        self, session: Session, queue: str
    ):
        [published] = await publish(session, queue, Message(body=b"hello"))
        [delivery] = await take(session, queue, 1)
        assert (delivery.id, delivery.body, delivery.queue) == (published, b"hello", queue)
        assert (delivery.deliveries, delivery.generation) == (1, 0)
        assert delivery.published_at.tzinfo is not None

    async def test_many_messages_have_an_outcome_each_in_order(self, session: Session, queue: str):
        messages = [Message(body=str(number).encode()) for number in range(50)]
        ids = await publish(session, queue, *messages)
        bodies = {one.id: one.body for one in await take(session, queue, 50)}
        assert [bodies[id_] for id_ in ids] == [message.body for message in messages]

    async def test_publishing_nothing_does_nothing(self, session: Session, queue: str):
        assert list(await session.publish(queue, [])) == []

    @pytest.mark.capability("max_body_bytes")
    async def test_a_too_large_message_has_its_own_error_and_its_neighbours_arrive(
        self, session: Session, queue: str, broker: Broker
    ):
        limit = broker.capabilities.max_body_bytes
        bodies = [b"before", b"x" * (limit + 1), b"after"]
        before, large, after = await session.publish(queue, [Message(body=b) for b in bodies])
        assert large.id is None
        assert isinstance(large.error, MessageTooLargeError)
        assert str(limit) in str(large.error)
        assert str(limit + 1) in str(large.error)
        arrived = {one.id: one.body for one in await take(session, queue, 2)}
        assert arrived == {before.id: b"before", after.id: b"after"}

    async def test_a_header_that_is_not_text_has_its_own_error_and_its_neighbours_arrive(
        self, session: Session, queue: str
    ):
        lone_surrogate = Message(body=b"bad", headers={"name": "\ud800"})
        refused, good = await session.publish(queue, [lone_surrogate, Message(body=b"good")])
        assert isinstance(refused.error, MessageNotAllowedError)
        assert "name" in str(refused.error)
        [delivery] = await take(session, queue, 1)
        assert (delivery.id, delivery.body) == (good.id, b"good")

    async def test_every_byte_and_an_empty_and_a_large_body_arrive_unchanged(
        self, session: Session, queue: str, broker: Broker
    ):
        large = random.Random(1).randbytes(min(1_000_000, broker.capabilities.max_body_bytes))
        bodies = [bytes(range(256)), b"", large]
        await publish(session, queue, *[Message(body=body) for body in bodies])
        arrived = await take(session, queue, 3)
        assert sorted(one.body for one in arrived) == sorted(bodies)

    @settings(
        max_examples=10,
        deadline=None,
        # Queue and session may serve all examples; and every provider inherits this test.
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
            HealthCheck.too_slow,
        ],
    )
    @given(messages=st.lists(MESSAGES, min_size=1, max_size=10))
    async def test_bodies_headers_and_keys_arrive_unchanged(
        self, session: Session, queue: str, messages: list[Message]
    ):
        ids = await publish(session, queue, *messages)
        deliveries = await take(session, queue, len(messages))
        arrived = {one.id: content(one) for one in deliveries}
        assert [arrived[id_] for id_ in ids] == [content(message) for message in messages]
        await settle(session, Done(), *deliveries)

    async def test_what_is_published_again_keeps_its_identity_count_and_generation(
        self, session: Session, queue: str
    ):
        again = Message(body=b"again", id="the-first-id", deliveries=3, generation=2)
        assert await publish(session, queue, again) == ["the-first-id"]
        [delivery] = await take(session, queue, 1)
        assert (delivery.id, delivery.deliveries, delivery.generation) == ("the-first-id", 4, 2)

    async def test_declaring_twice_changes_nothing(self, session: Session, queue: str):
        await publish(session, queue, Message(body=b"kept"))
        await session.declare(queue)
        [delivery] = await take(session, queue, 1)
        assert delivery.body == b"kept"

    @pytest.mark.parametrize("name", ["", "a\x00b", "line\nbreak", "x" * 300, "\ud800"])
    async def test_a_bad_queue_name_is_refused_by_every_call(self, session: Session, name: str):
        with pytest.raises(QueueNameError):
            await session.declare(name)
        with pytest.raises(QueueNameError):
            await session.publish(name, [Message(body=b"")])
        with pytest.raises(QueueNameError):
            await session.receive(name, max_messages=1, wait=AT_ONCE)
        with pytest.raises(QueueNameError):
            await session.depth(name)

    @pytest.mark.capability("priority_levels")
    async def test_higher_priorities_come_strictly_first(
        self, session: Session, queue: str, broker: Broker
    ):
        levels = {10: list(range(10)), 3: [0, 4, 9], 1: [0, 9]}[broker.capabilities.priority_levels]
        shuffled = random.Random(7).sample(levels * 3, len(levels) * 3)
        messages = [Message(body=b"", priority=priority) for priority in shuffled]
        if broker.capabilities.priority_levels == 1:
            outcomes = await session.publish(queue, messages)
            assert all(isinstance(one.error, UnsupportedError) for one in outcomes)
            return
        await publish(session, queue, *messages)
        arrived = [(await take(session, queue, 1))[0].priority for _ in range(5)]
        arrived += [one.priority for one in await take(session, queue, len(messages) - 5)]
        assert arrived == sorted(shuffled)

    @pytest.mark.capability("delay")
    async def test_a_delayed_message_is_counted_as_delayed_and_does_not_come_before_its_time(
        self, session: Session, queue: str, broker: Broker
    ):
        begin = time.monotonic()
        delayed = Message(body=b"later", delay=ms(1_200))
        if not broker.capabilities.delay:
            [outcome] = await session.publish(queue, [delayed])
            assert isinstance(outcome.error, UnsupportedError)
            return
        priority = 9 if broker.capabilities.priority_levels > 1 else 4
        now = Message(body=b"now", priority=priority)
        [late, early] = await publish(session, queue, delayed, now)
        [first] = await take(session, queue, 1)
        assert first.id == early
        await settle(session, Done(), first)
        await wait_for_depth(session, queue, (0, 0, 1, 0))
        [second] = await take(session, queue, 1)
        elapsed = time.monotonic() - begin
        assert (second.id, second.body, second.deliveries) == (late, b"later", 1)
        assert 1.2 <= elapsed < 4.5
