"""Taking messages from one queue, and holding them until they are settled.

A call that asks for messages starts a consumer whose prefetch is what the call wants. As soon as
that many have come, the consumer is cancelled: nothing is fetched that nobody has asked for, and a
backlog is taken in batches of the size that is wanted. Where fewer have come the consumer stays for
the next call; what comes between two calls is that one's, and if there is none within a second the
consumer is cancelled and that is given back.

Cancelling at once would be simpler. But what a quorum queue hands to a channel that is cancelling a
consumer, the channel returns to the queue as a delivery that failed, uncounted by nobody. A consumer
that has had all it may have is sent nothing at that moment, so that only pauses have that risk.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from pika import BasicProperties

from blocks.errors import BrokerUnavailableError
from blocks.rabbitmq_broker.channel import Channel
from blocks.rabbitmq_broker.content import Incoming
from blocks.rabbitmq_broker.driver import Answer
from blocks.rabbitmq_broker.link import Link

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
class _Consumer:
    """A consumer that may be sent so many messages before they are settled."""

    prefetch: int
    tag: str = field(default_factory=lambda: f"noa-{uuid4().hex}")
    unsettled: int = 0


@dataclass(slots=True)
class _Hold:
    """A delivery that hasn't been settled."""

    message: Incoming
    consumer: _Consumer | None
    #: When its lease ends, by `time.monotonic`.
    until: float
    #: Whether it is out of the reader's hands.
    handed_out: bool = False
    #: Its verdict is being carried out: its lease doesn't end meanwhile.
    settling: bool = False


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
        self._held: dict[int, _Hold] = {}
        #: Come, and not handed out.
        self._waiting: list[Incoming] = []
        self._consumer: _Consumer | None = None
        self._call: _Call | None = None
        #: When the last call was answered, by `time.monotonic`.
        self._idle_since = time.monotonic()

    async def open(self) -> None:
        """Begin to watch over the leases."""
        await self._ask(self._begin)

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
        driver.post(lambda: self._listen(call))
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

        return await self._ask(rest)

    async def close(self) -> None:
        """Close the channel: the broker takes back what it holds."""
        with self._link.explained():
            await self._channel.close()

    async def counts(self) -> tuple[int, int]:
        """How many have been handed out and not settled, and how many wait for the next call."""

        def count(answer: Answer[tuple[int, int]]) -> None:
            handed_out = sum(hold.handed_out for hold in self._held.values())
            answer.give((handed_out, len(self._waiting)))

        return await self._ask(count)

    async def held(self) -> list[Incoming]:
        """What has been handed out and not been settled."""

        def look(answer: Answer[list[Incoming]]) -> None:
            answer.give([hold.message for hold in self._held.values() if hold.handed_out])

        return await self._ask(look)

    async def renew(self, tags: Collection[int]) -> set[int]:
        """Start leases anew, and return those that are still held."""

        def renew(answer: Answer[set[int]]) -> None:
            kept = {tag for tag in tags if tag in self._held}
            for tag in kept:
                self._held[tag].until = time.monotonic() + self._lease
            answer.give(kept)

        return await self._ask(renew)

    async def claim(self, tags: Collection[int]) -> set[int]:
        """Keep these from being given back while they are settled; return those still held."""

        def claim(answer: Answer[set[int]]) -> None:
            found = {tag for tag in tags if tag in self._held and not self._held[tag].settling}
            for tag in found:
                self._held[tag].settling = True
            answer.give(found)

        return await self._ask(claim)

    async def finish(
        self, *, done: Collection[int] = (), back: Collection[int] = (), kept: Collection[int] = ()
    ) -> None:
        """Acknowledge some, requeue some, and keep some whose settling has failed.

        Returns when the broker has read it; a connection that breaks before that leaves open
        whether it has been carried out.
        """

        def finish(raw: Any, reply: Any) -> None:
            del raw
            for tag in kept:
                self._restart(tag)
            self._acknowledge(set(done))
            for tag in back:
                self._give_back(tag)
            self._inquire(reply)

        if done or back:
            with self._link.explained():
                await self._channel.call(finish)
        else:
            self._link.driver.post(lambda: [self._restart(tag) for tag in kept])

    async def _ask(self, work: Any) -> Any:
        with self._link.explained():
            return await self._link.driver.ask(work, self._link.timeout)

    # All that follows runs in the driver's thread.

    def _begin(self, answer: Answer[None]) -> None:
        self._channel.when_closed(self._lost)
        self._channel.raw.add_on_cancel_callback(self._cancelled)
        self._channel.raw.on_delivery = self._came
        self._watch()
        answer.give(None)

    def _listen(self, call: _Call) -> None:
        if not self._channel.is_open:
            self._channel.when_closed(call.answer.fail)
            return
        self._call = call
        if self._waiting:
            self._answer(call)
        elif self._consumer is None:
            self._consumer = _Consumer(call.most)
            raw = self._channel.raw
            raw.basic_qos(prefetch_count=call.most)
            raw.basic_consume(self._queue, lambda *_: None, consumer_tag=self._consumer.tag)

    def _came(self, method: Any, properties: BasicProperties, body: bytes) -> None:
        consumer, call = self._consumer, self._call
        if consumer is not None and method.consumer_tag != consumer.tag:
            consumer = None
        message = Incoming(method.delivery_tag, method.redelivered, properties, body)
        self._held[message.tag] = _Hold(message, consumer, time.monotonic() + self._lease)
        self._waiting.append(message)
        if consumer is not None:
            consumer.unsettled += 1
            if consumer.unsettled == consumer.prefetch:
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
            if (hold := self._held.get(message.tag)) is not None:
                hold.handed_out = True
                hold.until = time.monotonic() + self._lease
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
        self._held.clear()
        self._waiting.clear()
        self._consumer = None
        if self._call is not None:
            self._call.answer.fail(reason)
            self._call = None

    def _watch(self) -> None:
        """Give back what nobody has renewed or asked for in time, and look again later."""
        if not self._channel.is_open:
            return
        now = time.monotonic()
        for tag, hold in list(self._held.items()):
            if hold.until <= now and not hold.settling:
                self._give_back(tag)
        if self._call is None and now > self._idle_since + _LINGER_SECONDS:
            self._dismiss(then=lambda: self._waiting and self._on_leftover(self))
        pause = min(self._lease / _LOOKS_PER_LEASE, _LONGEST_LOOK)
        self._link.driver.ioloop.call_later(pause, self._watch)

    def _give_back(self, tag: int) -> None:
        if self._drop(tag):
            self._channel.raw.basic_nack(tag, requeue=True)

    def _drop(self, tag: int) -> bool:
        hold = self._held.pop(tag, None)
        if hold is not None and hold.consumer is not None:
            hold.consumer.unsettled -= 1
        return hold is not None

    def _restart(self, tag: int) -> None:
        if (hold := self._held.get(tag)) is not None:
            hold.settling = False
            hold.until = time.monotonic() + self._lease

    def _acknowledge(self, tags: set[int]) -> None:
        """Acknowledge; all at once what is older than anything that is still held."""
        tags &= self._held.keys()
        oldest = 0
        for tag in self._held:
            if tag not in tags:
                break
            oldest = tag
        for tag in sorted(tags):
            self._drop(tag)
            if tag > oldest:
                self._channel.raw.basic_ack(tag)
        if oldest:
            self._channel.raw.basic_ack(oldest, multiple=True)
