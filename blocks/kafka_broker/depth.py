"""Counting a queue: what its group hasn't settled, record by record.

The difference of two offsets counts too much: transactions leave markers behind, and aborted ones
their records too; so the records are read, up to a number that keeps a call short. What lies
further on is counted by its offsets.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from blocks.kafka_broker.dead_letters import DeadLetters
from blocks.kafka_broker.names import QueueTopics
from blocks.kafka_broker.reader import Reader
from blocks.kafka_broker.record import Entry, now_ms
from blocks.kafka_broker.stock import Place
from blocks.kafka_broker.topics import Committed, Topics
from blocks.kafka_broker.window import Window
from blocks.message import Depth

_MOST_READ: Final = 5_000
_LONGEST: Final = 2.0


@dataclass
class _Count:
    """What was seen so far."""

    ready: int = 0
    delayed: int = 0
    oldest: int | None = None
    #: Of the topic of leases: handle → whether a message lies under it.
    leases: dict[bytes | None, Entry] = field(default_factory=dict[bytes | None, Entry])

    def waits(self, entry: Entry) -> None:
        """Count a message that is ready, or in flight."""
        self.ready += 1
        published = entry.published
        self.oldest = published if self.oldest is None else min(self.oldest, published)


class Counter:
    """Counts one queue; blocking, for one thread at a time."""

    def __init__(
        self, topics: Topics, reader: Reader, names: QueueTopics, dead: DeadLetters
    ) -> None:
        self._topics = topics
        self._reader = reader
        self._names = names
        self._dead = dead

    def count(self, in_flight: int) -> Depth:
        """Count; so many are held by the session that asks."""
        committed = self._topics.committed(self._names.queue)
        windows = self._windows(committed)
        ends = self._topics.ends(windows)
        behind = {
            place: window for place, window in windows.items() if window.end < ends.get(place, 0)
        }
        counted = _Count()
        rest = self._read(behind, counted)
        for entry in counted.leases.values():
            counted.waits(entry)
        rest_of = sum(max(0, ends[place] - at) for place, at in rest.items())
        age = None
        if counted.oldest is not None:
            age = timedelta(milliseconds=max(0, now_ms() - counted.oldest))
        return Depth(
            ready=max(0, counted.ready + rest_of - in_flight),
            in_flight=in_flight,
            delayed=counted.delayed,
            dead=self._dead.count(),
            oldest_age=age,
        )

    def _windows(self, committed: Committed) -> dict[Place, Window]:
        own = [*self._names.consumed]
        begun = {place: Window(*position) for place, position in committed.items()}
        new = [place for place in self._topics.partitions(own) if place not in begun]
        return begun | {place: Window(at) for place, at in self._topics.starts(new).items()}

    def _read(self, windows: Mapping[Place, Window], counted: _Count) -> dict[Place, int]:
        """Count record by record; return from where on partitions were not read."""
        deadline, number = time.monotonic() + _LONGEST, 0
        scan = self._reader.scan({place: window.end for place, window in windows.items()})
        for number, entry in enumerate(scan, start=1):
            if windows[entry.topic, entry.partition].admit(entry.offset):
                self._count(entry, counted)
            if number >= _MOST_READ or time.monotonic() > deadline:
                scan.close()
                return {place: window.end for place, window in windows.items()}
        return {}

    def _count(self, entry: Entry, counted: _Count) -> None:
        if entry.topic == self._names.held:
            counted.leases.pop(entry.key, None)
            if entry.value is not None:
                counted.leases[entry.key] = entry
        elif entry.topic in self._names.retries and entry.due > now_ms():
            counted.delayed += 1
        else:
            counted.waits(entry)
