"""Topics of the embedded broker: what patterns match, and what a broadcast is."""

import time
from datetime import timedelta
from pathlib import Path

import pytest

from blocks.embedded_broker import EmbeddedBroker
from blocks.embedded_broker.rows import MAX_BODY_BYTES
from blocks.embedded_broker.topic_pattern import TopicPattern
from blocks.errors import MessageTooLargeError, QueueNameError
from blocks.message import Message

AT_ONCE = timedelta(0)


@pytest.fixture
def broker(tmp_path: Path) -> EmbeddedBroker:
    return EmbeddedBroker(path=tmp_path / "queue.db")


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        ("orders.eu", "orders.eu"),
        ("orders.*", "orders.eu"),
        ("*", "orders"),
        ("*.*", "orders."),
        ("#", "orders.eu.west"),
        ("orders.#", "orders"),
        ("orders.#", "orders.eu.west"),
        ("#.west", "west"),
        ("#.eu.#", "eu"),
        ("orders.*.#", "orders.eu"),
        ("orders.#.west", "orders.west"),
        ("orders.#.*", "orders.eu.west"),
        ("#.#", "orders"),
        ("#.a.#.b", "a.b.a.c.b"),
        ("orders.a*", "orders.a*"),
    ],
)
def test_a_pattern_matches(pattern: str, topic: str):
    assert TopicPattern(pattern).matches(topic)


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        ("orders.eu", "orders.us"),
        ("orders", "orders.eu"),
        ("orders.*", "orders"),
        ("orders.*", "orders.eu.west"),
        ("orders.*.#", "orders"),
        ("*.eu", "eu"),
        ("#.eu", "eu.west"),
        ("orders.#", "order.eu"),
        ("orders.a*", "orders.ab"),
        ("orders.e", "orders.eu"),
        ("Orders", "orders"),
    ],
)
def test_a_pattern_leaves_alone(pattern: str, topic: str):
    assert not TopicPattern(pattern).matches(topic)


def test_a_malicious_pattern_takes_no_longer_than_any_other():
    began = time.monotonic()
    assert not TopicPattern(".".join(["#", "a"] * 50)).matches(".".join(["a"] * 100 + ["b"]))
    assert time.monotonic() - began < 1


async def test_a_queue_that_several_of_its_patterns_lead_to_gets_one_copy(broker: EmbeddedBroker):
    async with broker.connect() as session:
        for topic in ("orders.eu", "orders.*", "#"):
            await session.subscribe("jobs", topic)
        await session.broadcast("orders.eu", [Message(body=b"once")])
        assert len(await session.receive("jobs", max_messages=9, wait=AT_ONCE)) == 1


async def test_a_broadcast_keeps_priorities_and_delays_of_each_copy(broker: EmbeddedBroker):
    async with broker.connect() as session:
        for queue in ("mine", "yours"):
            await session.subscribe(queue, "news")
        later = Message(body=b"later", delay=timedelta(hours=1))
        await session.broadcast("news", [Message(body=b"low", priority=9), later])
        await session.broadcast("news", [Message(body=b"high", priority=0)])
        for queue in ("mine", "yours"):
            taken = await session.receive(queue, max_messages=9, wait=AT_ONCE)
            assert [(one.body, one.priority) for one in taken] == [(b"high", 0), (b"low", 9)]
            assert (await session.depth(queue)).delayed == 1


async def test_a_message_that_cannot_be_held_has_its_own_outcome(broker: EmbeddedBroker):
    async with broker.connect() as session:
        await session.subscribe("jobs", "news")
        large = Message(body=bytes(MAX_BODY_BYTES + 1))
        good, bad = await session.broadcast("news", [Message(body=b""), large])
        assert (good.error, type(bad.error)) == (None, MessageTooLargeError)
        assert (await session.depth("jobs")).ready == 1


@pytest.mark.parametrize("pattern", ["orders.*", "#", "*.eu"])
async def test_nobody_broadcasts_to_a_pattern(broker: EmbeddedBroker, pattern: str):
    async with broker.connect() as session:
        with pytest.raises(QueueNameError, match="is a pattern"):
            await session.broadcast(pattern, [Message(body=b"")])
