"""What a member has handed out and not yet settled, each for as long as its lease."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from uuid import uuid4

from blocks.kafka_broker.record import Entry
from blocks.kafka_broker.stock import Shelf
from blocks.message import Delivery


@dataclass(frozen=True, slots=True)
class Receipt:
    """Which delivery of which member."""

    member: str
    number: int


@dataclass(slots=True, eq=False)
class Holding:
    """One delivery."""

    number: int
    entry: Entry
    #: Where it was read; None once it is held without the partition, under `handle`.
    shelf: Shelf | None
    #: Which delivery of the message it is.
    deliveries: int
    #: By `time.monotonic`.
    deadline: float
    handle: bytes = b""


class Holdings:
    """All of a member; under its lock."""

    def __init__(self, lease: timedelta) -> None:
        self.member = uuid4().hex
        self._lease = lease.total_seconds()
        self._numbers = count()
        self._held: dict[int, Holding] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Holding]:
        return iter(list(self._held.values()))

    def add(self, shelf: Shelf, entry: Entry, deliveries: int) -> Receipt:
        """Begin a lease."""
        number = next(self._numbers)
        self._held[number] = Holding(number, entry, shelf, deliveries, self.new_deadline())
        return Receipt(self.member, number)

    def find(self, delivery: Delivery) -> Holding | None:
        """The holding of a delivery, unless it was settled or its lease has ended."""
        receipt = delivery.receipt
        if not isinstance(receipt, Receipt) or receipt.member != self.member:
            return None
        holding = self._held.get(receipt.number)
        return holding if holding and holding.deadline > time.monotonic() else None

    def new_deadline(self) -> float:
        """When a lease that begins now will end."""
        return time.monotonic() + self._lease

    def remove(self, holding: Holding) -> None:
        """Hold it no more."""
        self._held.pop(holding.number, None)

    def of(self, shelf: Shelf) -> list[Holding]:
        """What was read from a partition, and is held."""
        return [one for one in self if one.shelf is shelf]

    def expired(self) -> list[Holding]:
        """Those whose lease has ended; they are held no more."""
        now = time.monotonic()
        over = [one for one in self if one.deadline <= now]
        for one in over:
            self.remove(one)
        return over
