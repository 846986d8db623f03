"""Taking messages from one queue, and holding them until they are settled.

A call that asks for messages starts a consumer whose prefetch is what the call wants. As soon as
that many have come, the consumer is cancelled: nothing is fetched that nobody has asked for, and a
backlog is taken in batches of the size that is wanted. Where fewer have come the consumer stays for
the next call; what comes between two calls is that one's, and if there is none within a second the
consumer is cancelled, and that is given back.

Cancelling at once would be simpler. But what a quorum queue hands to a channel that is cancelling,
the channel returns to the queue as a delivery that has failed, and that nobody has seen. A consumer
that has had all it may have is sent nothing at that moment, so that only pauses have that risk.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pika import BasicProperties

from blocks.errors import BrokerUnavailableError
from blocks.rabbitmq_broker.channel import Channel
from blocks.rabbitmq_broker.driver import Answer
from blocks.rabbitmq_broker.holds import Consumer, Holds
from blocks.rabbitmq_broker.incoming import Incoming
from blocks.rabbitmq_broker.link import Link

T = TypeVar("T")

_LOOKS_PER_LEASE: Final = 20
_LONGEST_LOOK: Final = 0.25
#: How long a consumer, and what has come for it, waits for the next call.
_LINGER_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Receipt:
    """Which of whose deliveries one is."""

    reader: "Reader"
    tag: int


@dataclass(slots=True, eq=False)
class _Call:
    """A call that waits for messages."""

    most: int
    answer: Answer[list[Incoming]]
    #: Something has come; a question is under way, and what comes before its answer goes along.
    ending: bool = False


class Reader:
    """A channel on which one queue is consumed; over for good when the channel is."""

    def __init__(
        self,
        link: Link,
        channel: Channel,
        queue: str,
        *,
        lease: float,
        on_leftover: Callable[["Reader"], None] = lambda _reader: None,
    ) -> None:
        """Take over an open channel; `on_leftover` is called in the driver's thread."""
        self._link = link
        self._channel = channel
        self._queue = queue
        self._lease = lease
        self._on_leftover = on_leftover
        # What follows belongs to the driver's thread.
        self._holds = Holds(channel.raw, lease)
        #: Come, and not handed out.
        self._waiting: list[Incoming] = []
        self._consumer: Consumer | None = None
        self._call: _Call | None = None
        #: When the last call was answered, by `time.monotonic`.
        self._idle_since = time.monotonic()

    async def open(self) -> None:
        """Begin to watch over the leases."""
        await self._compute(self._begin)

    @property
    def is_open(self) -> bool:
        """Whether what it holds is still its own."""
        return self._channel.is_open

    async def take(self, most: int, wait: float, stop: asyncio.Event) -> list[Incoming]:
        """Take up to `most`; wait for the first one for `wait` seconds, or until told to stop.

        Raises:
            BrokerUnavailableError: The queue or the connection has gone meanwhile.
        """
        call = _Call(most, Answer[list[Incoming]]())
        driver, done = self._link.driver, call.answer.future
        driver.begin(lambda _answer: self._listen(call), call.answer)
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({done, stopped}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            driver.post(lambda: self._end(call))
        with self._link.explained():
            async with asyncio.timeout(self._link.timeout):
                return await done

    async def rest(self) -> list[Incoming]:
        """End the consumer, and take what has come for it; nothing while a call waits for that."""

        def rest(answer: Answer[list[Incoming]]) -> None:
            if self._call is not None:
                answer.give([])
                return
            self._dismiss(then=lambda: answer.give(self._hand_out(len(self._waiting))))

        with self._link.explained():
            return await self._link.driver.ask(rest, self._link.timeout)

    async def close(self) -> None:
        """Close the channel: the broker takes back what it holds."""
        with self._link.explained():
            await self._channel.close()

    async def counts(self) -> tuple[int, int]:
        """How many have been handed out and not settled, and how many wait for the next call."""
        return await self._compute(lambda: (len(self._holds.handed_out()), len(self._waiting)))

    async def held(self) -> list[Incoming]:
        """What has been handed out and not been settled."""
        return await self._compute(self._holds.handed_out)

    async def renew(self, tags: Collection[int]) -> set[int]:
        """Start leases anew, and return those that are still held."""
        return await self._compute(lambda: self._holds.renew(tags))

    async def claim(self, tags: Collection[int]) -> set[int]:
        """Keep these from being given back while they are settled; return those still held."""
        return await self._compute(lambda: self._holds.claim(tags))

    async def finish(
        self, *, done: Collection[int] = (), back: Collection[int] = (), kept: Collection[int] = ()
    ) -> None:
        """Acknowledge some, requeue some, and keep some whose settling has failed.

        Returns when the broker has read it; a connection that breaks before that leaves open
        whether it has been carried out.
        """

        def finish(raw: Any, reply: Any) -> None:
            del raw
            self._holds.keep(kept)
            self._holds.acknowledge(done)
            self._holds.give_back(back)
            self._inquire(reply)

        if done or back:
            with self._link.explained():
                await self._channel.call(finish)
        else:
            self._link.driver.post(lambda: self._holds.keep(kept))

    async def _compute(self, work: Callable[[], T]) -> T:
        with self._link.explained():
            return await self._link.driver.compute(work, self._link.timeout)

    # All that follows runs in the driver's thread.

    def _begin(self) -> None:
        self._channel.when_closed(self._lost)
        self._channel.raw.add_on_cancel_callback(self._cancelled)
        self._channel.raw.on_delivery = self._came
        self._watch()

    def _listen(self, call: _Call) -> None:
        if not self._channel.is_open:
            self._channel.when_closed(call.answer.fail)
            return
        self._call = call
        if self._waiting:
            self._answer(call)
        elif self._consumer is None:
            self._consumer = Consumer(call.most)
            raw = self._channel.raw
            raw.basic_qos(prefetch_count=call.most)
            raw.basic_consume(self._queue, _ignore, consumer_tag=self._consumer.tag)

    def _came(self, method: Any, properties: BasicProperties, body: bytes) -> None:
        consumer, call = self._consumer, self._call
        if consumer is not None and method.consumer_tag != consumer.tag:
            consumer = None
        message = Incoming(method.delivery_tag, method.redelivered, properties, body)
        self._holds.add(message, consumer)
        self._waiting.append(message)
        if consumer is not None and consumer.unsettled == consumer.prefetch:
            self._dismiss()
        if call is not None:
            self._end(call)

    def _end(self, call: _Call) -> None:
        """Answer a call: with what has come, and what the broker has sent before it is asked."""
        if call is not self._call or call.ending or not self._channel.is_open:
            return
        if len(self._waiting) >= call.most:
            self._answer(call)
            return
        call.ending = True
        self._inquire(lambda _frame: self._answer(call))

    def _answer(self, call: _Call) -> None:
        if call is not self._call:
            return
        self._call = None
        self._idle_since = time.monotonic()
        call.answer.give(self._hand_out(call.most))

    def _hand_out(self, most: int) -> list[Incoming]:
        """Start the leases; what has been given back meanwhile isn't handed out."""
        handed: list[Incoming] = []
        while self._waiting and len(handed) < most:
            message = self._waiting.pop(0)
            if self._holds.hand_out(message):
                handed.append(message)
        return handed

    def _inquire(self, then: Callable[[Any], object]) -> None:
        """Ask the broker what is of no matter: what it sent before the answer has come by then."""
        prefetch = self._consumer.prefetch if self._consumer is not None else 1
        self._channel.raw.basic_qos(prefetch_count=prefetch, callback=then)

    def _dismiss(self, then: Callable[[], object] = lambda: None) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is None or not self._channel.is_open:
            then()
            return
        # What the channel has been handed it still sends, before it answers the next question.
        self._channel.raw.basic_cancel(
            consumer.tag, callback=lambda _frame: self._inquire(lambda _reply: then())
        )

    def _cancelled(self, frame: Any) -> None:
        """The broker has ended the consumer: its queue was deleted, or has lost its leader."""
        if self._consumer is None or frame.method.consumer_tag != self._consumer.tag:
            return
        self._consumer = None
        call = self._call
        if call is None or self._waiting:
            return
        self._call = None
        call.answer.fail(
            BrokerUnavailableError(
                f"{self._link.address} no longer delivers from {self._queue!r}: the queue was "
                "deleted, or has lost its leader; try again"
            )
        )

    def _lost(self, reason: BaseException) -> None:
        self._holds.clear()
        self._waiting.clear()
        self._consumer = None
        if self._call is not None:
            self._call.answer.fail(reason)
            self._call = None

    def _watch(self) -> None:
        """Give back what nobody has renewed or asked for in time, and look again later."""
        if not self._channel.is_open:
            return
        self._holds.expire()
        if self._call is None and time.monotonic() > self._idle_since + _LINGER_SECONDS:
            self._dismiss(then=lambda: self._waiting and self._on_leftover(self))
        pause = min(self._lease / _LOOKS_PER_LEASE, _LONGEST_LOOK)
        self._link.driver.ioloop.call_later(pause, self._watch)


def _ignore(*_: object) -> None:
    """What is delivered comes by `DeliveringChannel.on_delivery`, whichever consumer it is for."""
