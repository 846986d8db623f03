"""The thread in which pika lives, and the way between it and the event loop.

Nothing of pika may be touched from outside its thread. What runs there is handed over by `ask`,
with an `Answer` to give; both ways are those that pika and asyncio keep for other threads. pika's
loop serves heartbeats and ends leases there, however busy the event loop is.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Generic, TypeVar

from pika.adapters.select_connection import IOLoop

_logger = logging.getLogger(__name__)
_END_SECONDS: Final = 5

T = TypeVar("T")


class Answer(Generic[T]):
    """What a coroutine waits for; given once, in the driver's thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self._loop.create_future()
        # Nobody may be there any more to hear of an error.
        self.future.add_done_callback(lambda future: future.cancelled() or future.exception())

    def give(self, value: T) -> None:
        """Answer; only the first time counts."""
        self._hand_over(self._set, value)

    def fail(self, error: BaseException) -> None:
        """Answer with an error; only the first time counts."""
        self._hand_over(self._set_error, error)

    def _hand_over(self, call: Callable[[Any], None], value: object) -> None:
        with suppress(RuntimeError):  # the event loop has been closed meanwhile
            self._loop.call_soon_threadsafe(call, value)

    def _set(self, value: T) -> None:
        if not self.future.done():
            self.future.set_result(value)

    def _set_error(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Driver:
    """The thread of one session; it begins with the first thing to do, and ends with `stop`."""

    def __init__(self, name: str) -> None:
        self.ioloop = IOLoop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._stopping = False
        #: Called when something went wrong in the thread that nobody has foreseen.
        self.on_failure: Callable[[], object] = lambda: None

    def start(self) -> None:
        """Begin to serve."""
        # pika logs each attempt to connect that fails by a dozen errors; they are raised here.
        driver_logger = logging.getLogger("pika")
        if driver_logger.level == logging.NOTSET:
            driver_logger.setLevel(logging.CRITICAL)
        self._thread.start()

    def post(self, work: Callable[[], object]) -> None:
        """Let the thread do something, in the order in which it was asked."""

        def call() -> None:
            work()

        self.ioloop.add_callback_threadsafe(call)

    async def ask(self, work: Callable[[Answer[T]], object], within: float) -> T:
        """Let the thread do something, and wait until it has given the answer.

        Raises:
            TimeoutError: No answer within so many seconds.
        """
        answer = Answer[T]()
        self.begin(work, answer)
        async with asyncio.timeout(within):
            return await answer.future

    async def compute(self, work: Callable[[], T], within: float) -> T:
        """Let the thread compute something, and return it.

        Raises:
            TimeoutError: No answer within so many seconds.
        """
        return await self.ask(lambda answer: answer.give(work()), within)

    def begin(self, work: Callable[[Answer[T]], object], answer: Answer[T]) -> None:
        """Let the thread do something that gives the answer, or fails it."""
        self.post(lambda: _attempt(work, answer))

    async def stop(self) -> None:
        """End the thread, and wait until it has gone."""
        self._stopping = True
        self.post(self.ioloop.stop)
        await asyncio.to_thread(self._thread.join, _END_SECONDS)

    def _run(self) -> None:
        while not self._stopping:
            try:
                self.ioloop.start()
            except Exception:
                _logger.exception("The connection to RabbitMQ is given up.")
                self.on_failure()
        with suppress(Exception):
            self.ioloop.close()


def _attempt(work: Callable[[Answer[T]], object], answer: Answer[T]) -> None:
    try:
        work(answer)
    except Exception as error:  # noqa: BLE001 - whatever it is, who waits has to hear of it
        answer.fail(error)
