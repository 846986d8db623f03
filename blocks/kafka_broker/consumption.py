"""One queue that a session consumes, as the event loop sees it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from blocks.errors import BrokerError
from blocks.kafka_broker.membership import Membership
from blocks.kafka_broker.names import QueueTopics
from blocks.kafka_broker.wire import Wire
from blocks.message import Delivery

T = TypeVar("T")

#: While it waits, a receiver looks at the connection so often.
_LOOK_AGAIN: Final = 0.5
#: What is there can't be handed out while the group is regrouping.
_REGROUPING: Final = 0.02

_logger = logging.getLogger(__name__)


class Consumption:
    """The thread that carries out calls, and how a waiting receiver is woken."""

    def __init__(self, wire: Wire, names: QueueTopics) -> None:
        self._loop = asyncio.get_running_loop()
        self._stirred = asyncio.Event()
        self._calls = ThreadPoolExecutor(1, thread_name_prefix=f"kafka-calls-{names.queue}")
        self.membership = Membership(wire, names, self._stir)
        self.member = self.membership.member

    async def call(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a blocking function, after those that were called before."""
        return await self._loop.run_in_executor(self._calls, partial(function, *arguments))

    async def receive(
        self, most: int, deadline: float, check: Callable[[], Awaitable[None]]
    ) -> list[Delivery]:
        """Take what is there, or wait for it."""
        self.membership.asks()
        try:
            while True:
                await check()
                self._stirred.clear()
                if self.membership.trouble is not None:
                    raise self.membership.trouble
                taken = await self._take(most) if self.member.stock.offers else []
                left = deadline - time.monotonic()
                if taken or left <= 0:
                    return taken
                pause = _REGROUPING if self.member.stock.offers else _LOOK_AGAIN
                await self._wait(min(left, pause))
        finally:
            self.membership.asks_no_more()

    async def close(self) -> None:
        """Give back everything, leave the group, end the threads."""
        try:
            await self.call(self.member.give_back_everything)
        except BrokerError as error:
            _logger.warning("What was held comes again when its lease ends: %s", error)
        finally:
            await asyncio.to_thread(self.membership.close)
            self._calls.shutdown(wait=False)

    async def _take(self, most: int) -> list[Delivery]:
        """Take; what a cancelled call had taken is given back."""
        taking = self._calls.submit(self.member.take, most)
        try:
            return await asyncio.wrap_future(taking)
        except asyncio.CancelledError:
            if not taking.cancelled():
                self._calls.submit(lambda: self.member.give_back(taking.result()))
            raise

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stirred.wait()
        except TimeoutError:
            return

    def _stir(self) -> None:
        """Wake whoever waits; called by the membership's thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stirred.set)
