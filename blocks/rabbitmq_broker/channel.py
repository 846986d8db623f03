"""A channel whose calls can be awaited."""

from collections.abc import Callable
from typing import Any

from blocks.rabbitmq_broker.connection import DeliveringChannel
from blocks.rabbitmq_broker.driver import Answer, Driver

#: Takes the broker's reply, a frame.
Reply = Callable[[Any], None]
#: Sends a method on the driver's channel, which calls back with the broker's reply.
Call = Callable[[DeliveringChannel, Reply], object]


class Channel:
    """One of a connection's channels; a call that the broker refuses closes it for good."""

    def __init__(self, raw: DeliveringChannel, driver: Driver, timeout: float) -> None:
        """Take an open channel. In the driver's thread."""
        self.raw = raw
        self._driver = driver
        self._timeout = timeout
        self._waiting: set[Answer[Any]] = set()
        self._on_close: list[Callable[[BaseException], None]] = []
        self._reason: BaseException | None = None
        raw.add_on_close_callback(self._closed)

    @property
    def is_open(self) -> bool:
        """Whether it has not been closed yet, as far as is known."""
        return self._reason is None and self.raw.is_open

    async def call(self, send: Call) -> Any:
        """Send a method, and return the reply.

        Raises:
            AMQPError: The driver's own; `errors.translate` knows them.
            TimeoutError: No reply in time.
        """
        return await self._driver.ask(lambda answer: self.begin(answer, send), self._timeout)

    async def close(self) -> None:
        """Close it, unless that has been done already."""
        if self.is_open:
            await self._driver.ask(self._begin_to_close, self._timeout)

    def begin(self, answer: Answer[Any], send: Call) -> None:
        """Send a method whose reply is the answer. In the driver's thread."""
        if self._reason is not None:
            answer.fail(self._reason)
            return
        self._waiting.add(answer)

        def reply(frame: Any) -> None:
            self._waiting.discard(answer)
            answer.give(frame)

        send(self.raw, reply)

    def when_closed(self, tell: Callable[[BaseException], None]) -> None:
        """Tell why it was closed, once it is. In the driver's thread."""
        if self._reason is not None:
            tell(self._reason)
        else:
            self._on_close.append(tell)

    def _begin_to_close(self, answer: Answer[None]) -> None:
        if not self.raw.is_open:
            answer.give(None)
            return
        self.when_closed(lambda _reason: answer.give(None))
        self.raw.close()

    def _closed(self, _channel: object, reason: BaseException) -> None:
        self._reason = reason
        waiting, self._waiting = self._waiting, set()
        for answer in waiting:
            answer.fail(reason)
        for tell in self._on_close:
            tell(reason)
