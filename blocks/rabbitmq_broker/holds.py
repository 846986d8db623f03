"""What a channel has delivered and nobody has settled. All of it belongs to the driver's thread."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import uuid4

from blocks.rabbitmq_broker.connection import DeliveringChannel
from blocks.rabbitmq_broker.incoming import Incoming


@dataclass(slots=True, eq=False)
class Consumer:
    """A consumer that may be sent so many messages before they are settled."""

    prefetch: int
    tag: str = field(default_factory=lambda: f"noa-{uuid4().hex}")
    unsettled: int = 0


@dataclass(slots=True)
class _Hold:
    message: Incoming
    consumer: Consumer | None
    #: When its lease ends, by `time.monotonic`.
    until: float
    #: Whether it is out of the reader's hands.
    handed_out: bool = False
    #: Its verdict is being carried out: its lease doesn't end meanwhile.
    settling: bool = False


class Holds:
    """The unsettled deliveries of one channel, by their tags, with a lease each."""

    def __init__(self, raw: DeliveringChannel, lease: float) -> None:
        self._raw = raw
        self._lease = lease
        self._held: dict[int, _Hold] = {}

    def add(self, message: Incoming, consumer: Consumer | None) -> None:
        """Hold what has come, for a consumer that may have gone already."""
        self._held[message.tag] = _Hold(message, consumer, time.monotonic() + self._lease)
        if consumer is not None:
            consumer.unsettled += 1

    def hand_out(self, message: Incoming) -> bool:
        """Start the lease of what somebody takes; False where it has been given back."""
        if (hold := self._held.get(message.tag)) is None:
            return False
        hold.handed_out = True
        hold.until = time.monotonic() + self._lease
        return True

    def handed_out(self) -> list[Incoming]:
        """What somebody works on."""
        return [hold.message for hold in self._held.values() if hold.handed_out]

    def claim(self, tags: Collection[int]) -> set[int]:
        """Keep leases from ending while a verdict is carried out; return those still held."""
        found = {tag for tag in tags if tag in self._held and not self._held[tag].settling}
        for tag in found:
            self._held[tag].settling = True
        return found

    def renew(self, tags: Collection[int]) -> set[int]:
        """Start leases anew; return those still held."""
        kept = self._held.keys() & tags
        for tag in kept:
            self._held[tag].until = time.monotonic() + self._lease
        return kept

    def keep(self, tags: Collection[int]) -> None:
        """Hold on to what was claimed, and couldn't be settled."""
        for tag in self.renew(tags):
            self._held[tag].settling = False

    def acknowledge(self, tags: Collection[int]) -> None:
        """Acknowledge; all at once what is older than anything that is still held."""
        done = self._held.keys() & tags
        oldest = 0
        for tag in self._held:
            if tag not in done:
                break
            oldest = tag
        if oldest:
            self._raw.basic_ack(oldest, multiple=True)
        for tag in sorted(done):
            self._drop(tag)
            if tag > oldest:
                self._raw.basic_ack(tag)

    def give_back(self, tags: Collection[int]) -> None:
        """Requeue what is still held."""
        for tag in tags:
            if self._drop(tag):
                self._raw.basic_nack(tag, requeue=True)

    def expire(self) -> None:
        """Give back what nobody has renewed, or asked for, in time."""
        now = time.monotonic()
        self.give_back(
            [tag for tag, hold in self._held.items() if hold.until <= now and not hold.settling]
        )

    def clear(self) -> None:
        """Forget everything: the channel has gone, and the broker has it back."""
        self._held.clear()

    def _drop(self, tag: int) -> bool:
        hold = self._held.pop(tag, None)
        if hold is not None and hold.consumer is not None:
            hold.consumer.unsettled -= 1
        return hold is not None
