"""SIGTERM ends a consumer, whatever code it interrupts."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any

import pytest
from prefect.exceptions import TerminationSignal
from prefect.utilities.engine import capture_sigterm

from noa_flows.consumers.termination import ended_by_sigterm


def be_deaf(_number: int, _frame: FrameType | None) -> None:
    """A handler that lets the process live."""


@pytest.fixture
def before() -> Iterator[None]:
    """The engine hands the signal on to the handler that was there before its own."""
    previous = signal.signal(signal.SIGTERM, be_deaf)
    yield
    signal.signal(signal.SIGTERM, previous)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1_000):
        pass


def be_silent(_loop: asyncio.AbstractEventLoop, _context: dict[str, Any]) -> None:
    """Asyncio logs what gets lost in its callbacks."""


async def consume(cleaned_up: list[str]) -> None:
    """What a consumer does, with cleaning up that takes a while."""
    with capture_sigterm():
        try:
            with ended_by_sigterm():
                await asyncio.sleep(20)
        finally:
            await asyncio.sleep(0.05)
            cleaned_up.append("done")


async def in_a_callback() -> None:
    asyncio.get_running_loop().call_soon(terminate)


async def in_another_task() -> None:
    terminate()


async def in_the_loop_s_wait() -> None:
    threading.Timer(0.1, terminate).start()


@pytest.mark.usefixtures("before")
@pytest.mark.parametrize("where", [in_a_callback, in_another_task, in_the_loop_s_wait])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_sigterm_ends_a_consumer_whatever_it_interrupts(
    where: Callable[[], Coroutine[None, None, None]],
) -> None:
    cleaned_up: list[str] = []
    struck: list[asyncio.Task[None]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(be_silent)
        loop.call_later(0.05, lambda: struck.append(loop.create_task(where())))
        async with asyncio.timeout(5):
            await consume(cleaned_up)

    with pytest.raises(TerminationSignal):
        asyncio.run(main())
    assert cleaned_up == ["done"]


async def test_a_consumer_that_ends_leaves_no_trace() -> None:
    with ended_by_sigterm():
        pass
    assert signal.set_wakeup_fd(-1) == -1
