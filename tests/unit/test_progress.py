"""A consumer that makes no progress is noticed; one that can't make any isn't blamed."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path

import pytest

from blocks.broker import Session
from blocks.embedded_broker import EmbeddedBroker
from blocks.message import Band, Message
from noa_flows.bridge.progress import Progress, bounded
from noa_flows.errors import StalledError

QUEUE = "jobs"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def session(tmp_path: Path) -> AsyncGenerator[Session]:
    async with EmbeddedBroker(path=tmp_path / "queue.db").connect() as session:
        await session.declare(QUEUE)
        yield session


async def look(progress: Progress, clock: Clock, *, times: int, lowest: Band = Band.LOW) -> None:
    for _ in range(times):
        clock.now += 61
        await progress.check(lowest)


async def test_ready_messages_that_nobody_gets_mean_a_stall(session: Session) -> None:
    await session.publish(QUEUE, [Message(body=b"1"), Message(body=b"2")])
    clock = Clock()
    progress = Progress(session, QUEUE, clock=clock)
    await look(progress, clock, times=2)
    with pytest.raises(StalledError, match="2 messages are ready in the queue 'jobs'"):
        await look(progress, clock, times=1)


async def test_an_empty_queue_is_no_stall(session: Session) -> None:
    clock = Clock()
    await look(Progress(session, QUEUE, clock=clock), clock, times=10)


async def test_a_queue_that_somebody_else_works_off_is_no_stall(session: Session) -> None:
    await session.publish(QUEUE, [Message(body=b"") for _ in range(20)])
    clock = Clock()
    progress = Progress(session, QUEUE, clock=clock)
    for _ in range(10):
        await look(progress, clock, times=1)
        await session.receive(QUEUE, max_messages=1, wait=timedelta(0))


async def test_whoever_receives_now_and_then_is_alive(session: Session) -> None:
    await session.publish(QUEUE, [Message(body=b"")])
    clock = Clock()
    progress = Progress(session, QUEUE, clock=clock)
    for _ in range(5):
        await look(progress, clock, times=2)
        progress.made()


async def test_bands_that_were_not_asked_for_are_no_stall(session: Session) -> None:
    await session.publish(QUEUE, [Message(body=b"", priority=9)])
    clock = Clock()
    await look(Progress(session, QUEUE, clock=clock), clock, times=10, lowest=Band.HIGH)


async def test_a_call_that_never_comes_back_is_ended() -> None:
    with pytest.raises(StalledError, match="begins anew"):
        async with bounded(timedelta(milliseconds=20)):
            await asyncio.Event().wait()


async def test_a_time_out_of_the_call_itself_stays_what_it_is() -> None:
    with pytest.raises(TimeoutError):
        async with bounded():
            raise TimeoutError
