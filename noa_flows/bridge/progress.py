"""Liveness, judged by progress: a consumer that is there, and does nothing, begins anew.

A process that runs and a connection that is open prove nothing: consumers of other systems have
stood still for days with both.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic
from typing import Final

from blocks.broker import Session
from blocks.message import Band
from noa_flows.errors import StalledError

#: No provider waits longer for one answer.
_LONGEST_CALL: Final = timedelta(minutes=6)
_LOOK_EVERY: Final = timedelta(seconds=60)
#: One look may fall into a moment at which another consumer gave something back.
_LOOKS: Final = 3


@asynccontextmanager
async def bounded(limit: timedelta = _LONGEST_CALL) -> AsyncGenerator[None]:
    """End a call to the broker that never comes back.

    Raises:
        StalledError: It took longer than the limit.
    """
    running = asyncio.timeout(limit.total_seconds())
    try:
        async with running:
            yield
    except TimeoutError as error:
        if not running.expired():
            raise
        raise StalledError(
            f"a call to the broker has not come back for {limit}; the consumer begins anew"
        ) from error


class Progress:
    """Notices a session that gives nothing although its queue has something to give.

    Args:
        session: The session in question.
        queue: Its queue.
        clock: Seconds, as `time.monotonic`.
    """

    def __init__(
        self, session: Session, queue: str, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._session = session
        self._queue = queue
        self._clock = clock
        self._looked_at = clock()
        #: How many messages were ready at each look since something was received.
        self._ready: list[int] = []

    def made(self) -> None:
        """Note that something was received, or that there was a reason why nothing could be."""
        self._ready.clear()
        self._looked_at = self._clock()

    async def check(self, lowest: Band) -> None:
        """Note that nothing was received, though all bands down to `lowest` were asked for.

        Where another consumer works the queue off, its ready messages become fewer at some look.

        Raises:
            StalledError: Messages have been ready all the time, and didn't become fewer.
        """
        if lowest is not Band.LOW or self._clock() - self._looked_at < _LOOK_EVERY.total_seconds():
            return
        self._looked_at = self._clock()
        self._ready.append((await self._session.depth(self._queue)).ready)
        looks = self._ready = self._ready[-_LOOKS:]
        if len(looks) == _LOOKS and looks[0] > 0 and looks == sorted(looks):
            raise StalledError(
                f"{looks[-1]} messages are ready in the queue {self._queue!r}, and none was "
                f"received for {_LOOKS * _LOOK_EVERY}; the consumer begins anew"
            )
