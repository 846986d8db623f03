"""What has to be written for verdicts: records, and marks in the windows of the partitions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from blocks.kafka_broker import record
from blocks.kafka_broker.holdings import Holding
from blocks.kafka_broker.names import QueueTopics
from blocks.kafka_broker.record import Record, milliseconds, now_ms
from blocks.kafka_broker.stock import Shelf
from blocks.message import Dead, Done, Release, Retry, Verdict

AT_ONCE = timedelta(0)


@dataclass
class Settlement:
    """Everything that one call settles; it happens as a whole, or not at all."""

    topics: QueueTopics
    records: list[Record] = field(default_factory=list[Record])
    #: Partitions whose offset is to be committed.
    touched: set[Shelf] = field(default_factory=set[Shelf])
    _undo: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    _then: list[Holding] = field(default_factory=list[Holding])

    def add(self, holding: Holding, verdict: Verdict) -> None:
        """Plan a verdict, and mark the window as if it had been carried out.

        Raises:
            MessageTooLargeError: The message can't be written anywhere else.
        """
        match verdict:
            case Done():
                self._end(holding)
            case Dead():
                letter = record.dead(
                    holding.entry,
                    self.topics.dead,
                    self.topics.queue,
                    verdict,
                    deliveries=holding.deliveries,
                )
                self.records.append(letter)
                self._end(holding)
            case Retry(after):
                self._go_back(holding, holding.deliveries, after)
            case Release(after):
                self._go_back(holding, holding.deliveries - 1, after)

    def roll_back(self) -> None:
        """Undo the marks."""
        for undo in reversed(self._undo):
            undo()

    def put_back(self) -> list[Holding]:
        """Those that are to be offered again, once everything is written."""
        return self._then

    def _go_back(self, holding: Holding, deliveries: int, after: timedelta) -> None:
        if after > AT_ONCE:
            topic, due = self.topics.retry_for(after), now_ms() + milliseconds(after)
            self.records.append(record.moved(holding.entry, topic, deliveries=deliveries, due=due))
            self._end(holding)
        elif holding.shelf is None:
            self.records.append(
                record.parked(
                    holding.entry, self.topics.held, holding.handle, deliveries=deliveries, due=0
                )
            )
        else:
            self._then.append(holding)
            if deliveries < holding.deliveries:
                self._uncount(holding.shelf, holding.entry.offset)

    def _end(self, holding: Holding) -> None:
        shelf, offset = holding.shelf, holding.entry.offset
        if shelf is None:
            self.records.append(Record(topic=self.topics.held, key=holding.handle, value=None))
        else:
            count = shelf.window.settle(offset)
            self.touched.add(shelf)
            self._undo.append(lambda: shelf.window.reopen(offset, count))

    def _uncount(self, shelf: Shelf, offset: int) -> None:
        shelf.window.take_back(offset)
        self.touched.add(shelf)

        def undo() -> None:
            shelf.window.hand_out(offset)

        self._undo.append(undo)
