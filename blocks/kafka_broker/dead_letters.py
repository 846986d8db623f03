"""Dead letters: a compacted topic in which each lies under a handle, until a tombstone ends it."""

from collections.abc import Iterator, Mapping
from typing import Final

from blocks.kafka_broker.committer import Committer, RegroupingError
from blocks.kafka_broker.names import QueueTopics
from blocks.kafka_broker.publisher import record_of
from blocks.kafka_broker.reader import Reader
from blocks.kafka_broker.record import Record, dead_letter_of, text_of
from blocks.kafka_broker.stock import Place
from blocks.kafka_broker.topics import Topics
from blocks.kafka_broker.wire import Wire
from blocks.message import DeadLetter, Message

_PAGE: Final = 100
_TRIES: Final = 5


class DeadLetters:
    """The dead letters of one queue; blocking, for one thread at a time."""

    def __init__(self, wire: Wire, topics: Topics, reader: Reader, names: QueueTopics) -> None:
        self._wire = wire
        self._topics = topics
        self._reader = reader
        self._names = names
        #: Handle → partition and offset of its letter.
        self._alive: dict[str, tuple[int, int]] = {}
        self._next: dict[Place, int] = {}

    def count(self) -> int:
        """How many there are."""
        self._catch_up()
        return len(self._alive)

    def pages(self) -> Iterator[list[DeadLetter]]:
        """Those that are there now, oldest first."""
        self._catch_up()
        alive = set(self._alive.values())
        if not alive:
            return
        page: list[DeadLetter] = []
        for entry in self._reader.scan(self._topics.starts(self._next)):
            if (entry.partition, entry.offset) in alive:
                page.append(dead_letter_of(entry, self._names.queue))
            if len(page) >= _PAGE:
                yield page
                page = []
        yield page

    def settle(self, fates: Mapping[str, Message | None]) -> list[str]:
        """Redrive or discard in one transaction; return the handles that were there.

        All who do this to a queue share a transactional id: the later one fences the earlier one
        off, who looks at the letters anew before he goes on. So nobody redrives a letter twice.
        """
        redriven = {
            handle: record_of(message, self._names, message.id or handle)
            for handle, message in fates.items()
            if message is not None
        }
        for _ in range(_TRIES - 1):
            try:
                return self._settle(fates, redriven)
            except RegroupingError:
                continue
        return self._settle(fates, redriven)

    def _settle(
        self, fates: Mapping[str, Message | None], redriven: Mapping[str, Record]
    ) -> list[str]:
        name = f"{self._wire.endpoint.group}.{self._names.dead}"
        committer = Committer(self._wire, None, name)
        committer.prepare()
        self._catch_up()
        there = [handle for handle in fates if handle in self._alive]
        records = [redriven[handle] for handle in there if handle in redriven]
        records += [
            Record(topic=self._names.dead, key=handle.encode(), value=None) for handle in there
        ]
        if records:
            committer.transact(records, {})
        for handle in there:
            del self._alive[handle]
        return there

    def _catch_up(self) -> None:
        places = self._topics.partitions([self._names.dead])
        behind = [place for place in places if place not in self._next]
        self._next |= self._topics.starts(behind)
        ends = self._topics.ends(places)
        self._next = {place: at for place, at in self._next.items() if place in ends}
        ahead = {place: at for place, at in self._next.items() if at < ends[place]}
        for entry in self._reader.scan(ahead):
            handle = text_of(entry.key or b"")
            self._alive.pop(handle, None)
            if entry.value is not None and handle:
                self._alive[handle] = entry.partition, entry.offset
            self._next[entry.topic, entry.partition] = entry.offset + 1
        for place in ahead:
            # Markers of transactions come after the last record.
            self._next[place] = max(self._next[place], ends[place])
