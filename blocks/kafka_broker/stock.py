"""What a member has read and not yet handed out: partition by partition, in its order.

Nothing here speaks to Kafka, and everything happens under the lock of the `Member`.
"""

import heapq
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from blocks.kafka_broker.names import QueueTopics
from blocks.kafka_broker.record import Entry, milliseconds, now_ms, read
from blocks.kafka_broker.window import Window

#: Messages and bytes of one partition that are kept in memory before anybody asks for them.
_MOST_ENTRIES: Final = 2_000
_MOST_BYTES: Final = 8 * 1024 * 1024
#: Of a partition that was taken over, for what is due at once to come before what is new.
_SETTLING_IN: Final = 1.0
#: How far the clocks of two machines may differ, in milliseconds: nobody takes over a lease before.
_CLOCKS_DIFFER: Final = 250

Place = tuple[str, int]


@dataclass(eq=False)
class Shelf:
    """A partition that belongs to this member."""

    topic: str
    partition: int
    window: Window
    fresh: deque[Entry] = field(default_factory=deque[Entry])
    #: Of the topic of leases: handle → the record that says how it stands.
    leases: dict[bytes, Entry] = field(default_factory=dict[bytes, Entry])
    #: False once it has gone to somebody else.
    owned: bool = True
    paused: bool = False
    #: Whether everything that had been written before was read once.
    settled_in: bool = False
    since: float = field(default_factory=time.monotonic)
    entries: int = 0
    bytes: int = 0

    @property
    def place(self) -> Place:
        """Topic and partition."""
        return self.topic, self.partition

    @property
    def full(self) -> bool:
        """Whether nothing more is to be read for now."""
        return self.entries >= _MOST_ENTRIES or self.bytes >= _MOST_BYTES

    @property
    def has_room(self) -> bool:
        """Whether reading is worth while again."""
        return self.entries <= _MOST_ENTRIES // 2 and self.bytes <= _MOST_BYTES // 2

    def keep(self, entry: Entry) -> None:
        """Count what lies here."""
        self.entries += 1
        self.bytes += len(entry.value or b"")

    def part_with(self, entry: Entry) -> None:
        """Count it no more."""
        self.entries -= 1
        self.bytes -= len(entry.value or b"")


Found = tuple[Shelf, Entry]


class Stock:
    """All shelves of a member."""

    def __init__(self, topics: QueueTopics) -> None:
        self.shelves: dict[Place, Shelf] = {}
        self._held_topic = topics.held
        self._stays = {topic: milliseconds(stay) for topic, stay in topics.retries.items()}
        #: Redeliveries, and whatever else goes before new messages.
        self._again: deque[Found] = deque()
        self._waiting: list[tuple[int, int, Shelf, Entry]] = []
        self._numbers = count()
        #: Messages that are due in another retry topic, since their stay is over and they aren't.
        self.overdue: list[Found] = []

    def add(self, shelf: Shelf) -> None:
        """Take over a partition."""
        self.shelves[shelf.place] = shelf

    def drop(self, place: Place) -> Shelf | None:
        """Give up a partition, with everything that was read of it."""
        if shelf := self.shelves.pop(place, None):
            shelf.owned = False
            self._again = deque(one for one in self._again if one[0] is not shelf)
            self.overdue = [one for one in self.overdue if one[0] is not shelf]
        return shelf

    def admit(self, message: Any) -> None:
        """Put a record where it belongs."""
        shelf = self.shelves.get((message.topic(), message.partition()))
        # What had been fetched before the partition went away, or was read before a rewind.
        if shelf is None or message.offset() < shelf.window.end:
            return
        entry = read(message)
        if not shelf.window.admit(entry.offset):
            return
        if shelf.topic == self._held_topic:
            self._admit_lease(shelf, entry)
        elif (stay := self._stays.get(shelf.topic)) is not None:
            self._wait(shelf, entry, min(entry.due, entry.timestamp + stay))
        elif shelf.window.count(entry.offset):
            self._offer_again(shelf, entry)
        else:
            shelf.keep(entry)
            shelf.fresh.append(entry)

    def reach_end(self, place: Place, end: int) -> None:
        """Note that a partition was read up to its end."""
        if shelf := self.shelves.get(place):
            shelf.window.reach(end)
            shelf.settled_in = True

    def wake(self) -> float | None:
        """Offer what is due by now; return in how many seconds the next one is."""
        now = now_ms()
        while self._waiting and self._waiting[0][0] <= now:
            _, _, shelf, entry = heapq.heappop(self._waiting)
            if not shelf.owned or shelf.window.is_settled(entry.offset):
                continue
            shelf.part_with(entry)
            if shelf.topic != self._held_topic and entry.due > now:
                self.overdue.append((shelf, entry))
            else:
                shelf.leases.pop(entry.key or b"", None)
                self._offer_again(shelf, entry)
        return (self._waiting[0][0] - now) / 1_000 if self._waiting else None

    @property
    def offers(self) -> bool:
        """Whether somebody who asks may be given something."""
        if self._again:
            return True
        return any(self._fresh_of(shelf) for shelf in self.shelves.values()) and self._settled_in

    def take(self, most: int) -> list[Found]:
        """Take what goes first, then from each partition in turn."""
        taken: list[Found] = []
        self._take_again(taken, most)
        if self._settled_in:
            for shelf in list(self.shelves.values()):
                while len(taken) < most and self._fresh_of(shelf):
                    entry = shelf.fresh.popleft()
                    shelf.part_with(entry)
                    taken.append((shelf, entry))
            if self.shelves:
                # Another partition is the first the next time.
                first = next(iter(self.shelves))
                self.shelves[first] = self.shelves.pop(first)
        return taken

    def put_back(self, shelf: Shelf, entry: Entry) -> None:
        """Offer again what was taken, if the partition is still here."""
        if shelf.owned:
            self._offer_again(shelf, entry)

    def _admit_lease(self, shelf: Shelf, entry: Entry) -> None:
        """What is newer under a handle says how it stands; no value says that it is over."""
        handle = entry.key or b""
        if before := shelf.leases.pop(handle, None):
            shelf.window.settle(before.offset)
        if entry.value is None:
            shelf.window.settle(entry.offset)
        else:
            shelf.leases[handle] = entry
            self._wait(shelf, entry, entry.due + _CLOCKS_DIFFER if entry.due else 0)

    def _wait(self, shelf: Shelf, entry: Entry, until: int) -> None:
        shelf.keep(entry)
        heapq.heappush(self._waiting, (until, next(self._numbers), shelf, entry))

    def _offer_again(self, shelf: Shelf, entry: Entry) -> None:
        shelf.keep(entry)
        self._again.append((shelf, entry))

    def _take_again(self, taken: list[Found], most: int) -> None:
        for _ in range(len(self._again)):
            if len(taken) >= most:
                return
            shelf, entry = self._again.popleft()
            if not shelf.window.has_room_for(entry.offset):
                self._again.append((shelf, entry))
            else:
                shelf.part_with(entry)
                taken.append((shelf, entry))

    def _fresh_of(self, shelf: Shelf) -> bool:
        return bool(shelf.fresh) and shelf.window.has_room_for(shelf.fresh[0].offset)

    @property
    def _settled_in(self) -> bool:
        return not any(self._still_coming())

    def _still_coming(self) -> Iterator[bool]:
        """Of partitions that were just taken over: leases that may have ended come first."""
        for shelf in self.shelves.values():
            if not shelf.settled_in and shelf.topic == self._held_topic:
                yield time.monotonic() - shelf.since < _SETTLING_IN
