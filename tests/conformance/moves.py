"""The few moves that most tests of the suite make, each demanding that it succeeds."""

import time
from collections.abc import Sequence
from datetime import timedelta

from blocks.broker import Session
from blocks.message import Delivery, Message, Outcome, Verdict
from tests.waiting import eventually

AT_ONCE = timedelta(0)
#: How long a test waits for what has to come; generous, since it is only spent in failures.
PATIENCE = timedelta(seconds=15)


def ms(milliseconds: int) -> timedelta:
    """Milliseconds as the contract takes them."""
    return timedelta(milliseconds=milliseconds)


async def publish(session: Session, queue: str, *messages: Message) -> list[str]:
    """Publish, demand that each message was accepted, and return the ids."""
    outcomes = await session.publish(queue, messages)
    assert [outcome.error for outcome in outcomes] == [None] * len(messages)
    ids = [outcome.id for outcome in outcomes if outcome.id]
    assert len(ids) == len(messages)
    return ids


async def take(
    session: Session, queue: str, count: int, *, within: timedelta = PATIENCE
) -> list[Delivery]:
    """Receive until there are `count` deliveries, and never more."""
    taken: list[Delivery] = []
    deadline = time.monotonic() + within.total_seconds()
    while len(taken) < count:
        assert time.monotonic() < deadline, f"{len(taken)} of {count} came within {within}"
        taken += await session.receive(queue, max_messages=count - len(taken), wait=ms(500))
    assert len(taken) == count
    return taken


async def settle(session: Session, verdict: Verdict, *deliveries: Delivery) -> None:
    """Settle all with one verdict, and demand that each was taken."""
    settled = await session.settle([Outcome(delivery, verdict) for delivery in deliveries])
    assert [one.error for one in settled] == [None] * len(deliveries)
    assert [one.delivery.id for one in settled] == [delivery.id for delivery in deliveries]


async def wait_for_depth(session: Session, queue: str, expected: Sequence[int]) -> None:
    """Wait until (ready, in flight, delayed, dead) is as expected; some brokers count late."""

    async def reached() -> bool:
        depth = await session.depth(queue)
        counts = (depth.ready, depth.in_flight, depth.delayed, depth.dead)
        assert counts == tuple(expected)
        return True

    await eventually(reached, description=f"(ready, in flight, delayed, dead) to be {expected}")
