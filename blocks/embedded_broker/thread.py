"""The one thread in which a session's SQLite work is done, call after call."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import Final, ParamSpec, TypeVar

from blocks.embedded_broker.database import explained

#: Between two looks of a waiting receive; a look costs some ten microseconds.
_POLL_SECONDS: Final = 0.01

P = ParamSpec("P")
R = TypeVar("R")


class DatabaseThread:
    """Runs blocking calls in order, and waits for changes while there is nothing to run."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="embedded-broker")
        # Each is written by one side only: the event loop's, the thread's.
        self._submitted = 0
        self._begun = 0
        self._wake = Event()

    async def run(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do the work in the thread, with SQLite's errors turned into ours.

        Work that was handed over is done, even if whoever waits for it is cancelled.
        """
        return await asyncio.shield(asyncio.wrap_future(self.submit(work, *args, **kwargs)))

    def submit(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Hand the work over, to be done after everything handed over before."""

        def begin() -> R:
            self._begun += 1
            with explained(self._address):
                return work(*args, **kwargs)

        self._submitted += 1
        self._wake.set()
        return self._executor.submit(begin)

    async def wait_until(self, has_changed: Callable[[], bool], deadline: float) -> None:
        """Return when it has changed, at the deadline (monotonic), or when other work came."""
        await self.run(self._linger, has_changed, deadline)

    def stop(self) -> None:
        """End the thread as soon as it has done what was handed over."""
        self._wake.set()
        self._executor.shutdown(wait=False)

    def _linger(self, has_changed: Callable[[], bool], deadline: float) -> None:
        while self._begun == self._submitted and not has_changed():
            left = deadline - time.monotonic()
            if left <= 0:
                return
            self._wake.wait(min(left, _POLL_SECONDS))
            # Cleared before the next look at the counters, which were raised before it was set.
            self._wake.clear()
