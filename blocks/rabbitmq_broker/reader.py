"""Taking messages from one queue, and holding them until they are settled.

Each call has a consumer of its own, whose prefetch is what the call wants. It is cancelled as soon as
something has come, and what has come until the broker confirms that is the call's. So nothing is
ever fetched that nobody has asked for, no message waits behind a session that doesn't receive, and
nothing need be given back: RabbitMQ would count that as a delivery, or lose its place.
"""

import asyncio
import time
from collections.abc import Collection
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
_LONGEST_LOOK: Final = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Receipt:
    """Which of whose deliveries one is."""

    reader: "Reader"
    tag: int


@dataclass(slots=True)
class _Hold:
    """A delivery that hasn't been settled."""

    message: Incoming
    #: When its lease ends, by `time.monotonic`.
    until: float
    #: Whether it is out of the reader's hands.
    handed_out: bool = False
    #: Its verdict is being carried out: its lease doesn't end meanwhile.
    settling: bool = False


@dataclass(slots=True, eq=False)
class _Take:
    """One call's consumer."""

    most: int
    answer: Answer[list[Incoming]]
    tag: str = field(default_factory=lambda: f"noa-{uuid4().hex}")
    messages: list[Incoming] = field(default_factory=list[Incoming])
    ending: bool = False


class Reader:
    """A channel on which one queue is consumed; over for good when the channel is."""

    def __init__(self, link: Link, channel: Channel, queue: str, lease: float) -> None:
        self._link = link
        self._channel = channel
        self._queue = queue
        self._lease = lease
        # What follows belongs to the driver's thread.
        self._prefetch = 0
        self._held: dict[int, _Hold] = {}
        self._take: _Take | None = None

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
        answer = Answer[list[Incoming]]()
        take = _Take(most, answer)
        driver, done = self._link.driver, answer.future
        driver.post(lambda: self._consume(take))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait(
                {done, stopped}, timeout=wait, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stopped.cancel()
            driver.post(lambda: self._end(take))
        with self._link.explained():
            async with asyncio.timeout(self._link.timeout):
                return await done

    async def close(self) -> None:
        """Close the channel: the broker takes back what it holds."""
        with self._link.explained():
            await self._channel.close()

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
            for tag in kept:
                self._restart(tag)
            self._acknowledge(set(done))
            for tag in back:
                self._give_back(tag)
            # Sets what is set already: the reply says that what came before it has been read.
            raw.basic_qos(prefetch_count=self._prefetch, callback=reply)

        if done or back:
            with self._link.explained():
                await self._channel.call(finish)
        else:
            self._link.driver.post(lambda: [self._restart(tag) for tag in kept])

    async def _ask(self, work: Any) -> Any:
        with self._link.explained():
            return await self._link.driver.ask(work, self._link.timeout)

    def _begin(self, answer: Answer[None]) -> None:
        self._channel.when_closed(self._lost)
        self._channel.raw.add_on_cancel_callback(self._cancelled)
        self._watch()
        answer.give(None)

    def _consume(self, take: _Take) -> None:
        if not self._channel.is_open:
            self._channel.when_closed(take.answer.fail)
            return
        self._take = take
        raw = self._channel.raw
        if take.most != self._prefetch:
            self._prefetch = take.most
            raw.basic_qos(prefetch_count=take.most)
        raw.basic_consume(
            self._queue,
            lambda _channel, method, properties, body: self._came(take, method, properties, body),
            consumer_tag=take.tag,
        )

    def _came(self, take: _Take, method: Any, properties: BasicProperties, body: bytes) -> None:
        tag = method.delivery_tag
        message = Incoming(tag, method.redelivered, properties, body)
        self._held[tag] = _Hold(message, time.monotonic() + self._lease)
        take.messages.append(message)
        self._end(take)

    def _end(self, take: _Take) -> None:
        if take.ending or not self._channel.is_open:
            return
        take.ending = True
        self._channel.raw.basic_cancel(take.tag, callback=lambda _frame: self._hand_out(take))

    def _hand_out(self, take: _Take) -> None:
        self._take = None
        for message in take.messages:
            if (hold := self._held.get(message.tag)) is not None:
                hold.handed_out = True
                hold.until = time.monotonic() + self._lease
        take.answer.give(take.messages)

    def _cancelled(self, frame: Any) -> None:
        """The broker has ended the consumer: its queue was deleted, or has lost its leader."""
        take = self._take
        if take is None or frame.method.consumer_tag != take.tag:
            return
        take.ending = True
        if take.messages:
            self._hand_out(take)
            return
        take.answer.fail(
            BrokerUnavailableError(
                f"{self._link.address} no longer delivers from {self._queue!r}: the queue was "
                "deleted, or has lost its leader; try again"
            )
        )

    def _lost(self, reason: BaseException) -> None:
        self._held.clear()
        if self._take is not None:
            self._take.answer.fail(reason)

    def _watch(self) -> None:
        """Give back what nobody has renewed in time, and look again later."""
        if not self._channel.is_open:
            return
        now = time.monotonic()
        for tag, hold in list(self._held.items()):
            if hold.handed_out and not hold.settling and hold.until <= now:
                self._give_back(tag)
        pause = min(self._lease / _LOOKS_PER_LEASE, _LONGEST_LOOK)
        self._link.driver.ioloop.call_later(pause, self._watch)

    def _give_back(self, tag: int) -> None:
        if self._held.pop(tag, None) is not None:
            self._channel.raw.basic_nack(tag, requeue=True)

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
            del self._held[tag]
            if tag > oldest:
                self._channel.raw.basic_ack(tag)
        if oldest:
            self._channel.raw.basic_ack(oldest, multiple=True)
