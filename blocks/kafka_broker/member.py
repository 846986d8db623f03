"""What a session holds of a queue: the partitions it has been assigned, and the leases of messages.

Blocking: the session's threads call it. Two locks keep them apart. `commits` is held by whoever
writes to Kafka what was settled, from the moment it looks until the answer, so that no older view
overwrites a newer one; `lock`, for moments only, by whoever touches stock and holdings.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from threading import RLock
from typing import Final
from uuid import uuid4

from blocks.errors import BrokerError, LeaseLostError, MessageTooLargeError
from blocks.kafka_broker import record
from blocks.kafka_broker.committer import Committer, InDoubtError, Offsets, RegroupingError
from blocks.kafka_broker.holdings import Holding, Holdings
from blocks.kafka_broker.names import QueueTopics
from blocks.kafka_broker.record import Record, delivery_of, now_ms
from blocks.kafka_broker.settlement import Settlement
from blocks.kafka_broker.stock import Place, Shelf, Stock
from blocks.kafka_broker.wire import Wire
from blocks.message import Delivery, Outcome, Release, Settled, Verdict

_REGROUPING_TAKES: Final = 0.02

_logger = logging.getLogger(__name__)


class Member:
    """One session's share of one queue."""

    def __init__(self, wire: Wire, topics: QueueTopics, committer: Committer) -> None:
        self.topics = topics
        self._wire = wire
        self._committer = committer
        self._timeout = wire.endpoint.timeout.total_seconds()
        self._lease = wire.endpoint.lease
        self.commits, self.lock = RLock(), RLock()
        self.stock, self.holdings = Stock(topics), Holdings(self._lease)
        #: Called when nobody knows what is written: leave the group, and read it anew.
        self.start_over: Callable[[], None] = lambda: None

    def take(self, most: int) -> list[Delivery]:
        """Hand out what is here; its count is on the broker before anybody works on it."""
        with self.commits:
            with self.lock:
                found = self.stock.take(most)
                counts = [shelf.window.hand_out(entry.offset) for shelf, entry in found]
                offsets = self._snapshots({shelf for shelf, _ in found})
            try:
                self._committer.commit(offsets)
            except BrokerError as error:
                with self.lock:
                    for shelf, entry in found:
                        shelf.window.take_back(entry.offset)
                        self.stock.put_back(shelf, entry)
                if isinstance(error, RegroupingError):
                    return []
                raise
            queue, deliveries = self.topics.queue, list[Delivery]()
            with self.lock:
                for (shelf, entry), count in zip(found, counts, strict=True):
                    nth = entry.deliveries + count
                    receipt = self.holdings.add(shelf, entry, nth)
                    deliveries.append(delivery_of(entry, queue, nth, receipt))
            return deliveries

    def settle(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        """Carry out the verdicts; on the broker when it returns."""
        with self.lock:
            found = [(one, self.holdings.find(one.delivery)) for one in outcomes]
        held = {id(holding): (holding, one.verdict) for one, holding in found if holding}
        try:
            lost = self._settle(list(held.values()))
        except MessageTooLargeError as error:
            if len(outcomes) == 1:
                return [Settled(delivery=outcomes[0].delivery, error=error)]
            return [settled for one in outcomes for settled in self.settle([one])]
        return [
            Settled(
                delivery=one.delivery,
                error=None if holding and holding not in lost else _lost(one.delivery),
            )
            for one, holding in found
        ]

    def renew(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Begin the leases anew; those with their partition are kept alive by the group itself."""
        with self.commits:
            with self.lock:
                found = [(one, self.holdings.find(one)) for one in deliveries]
                deadline = self.holdings.new_deadline()
                held = [holding for _, holding in found if holding]
                records = [self._promise(one) for one in held if one.shelf is None]
            if records:
                self._committer.transact(records, {})
            with self.lock:
                for holding in held:
                    holding.deadline = deadline
        return [one for one, holding in found if holding]

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Release what nobody has been given."""
        self.settle([Outcome(one, Release()) for one in deliveries])

    def give_back_everything(self) -> None:
        """Release all that is held."""
        with self.lock:
            held: list[tuple[Holding, Verdict]] = [(one, Release()) for one in self.holdings]
        self._settle(held)

    def assigned(self, shelves: Iterable[Shelf]) -> None:
        """Take over partitions."""
        with self.lock:
            for shelf in shelves:
                self.stock.add(shelf)

    def revoked(self, places: Collection[Place]) -> None:
        """Give up partitions, and keep what is held of them."""
        with self.commits:
            with self.lock:
                shelves = [self.stock.shelves[one] for one in places if one in self.stock.shelves]
                held = [one for shelf in shelves for one in self.holdings.of(shelf)]
                for holding in held:
                    holding.handle = uuid4().hex.encode()
                    shelf = holding.shelf
                    assert shelf is not None
                    shelf.window.settle(holding.entry.offset)
                records = [self._promise(one, until=one.deadline) for one in held]
                offsets = self._snapshots({one for one in shelves if one.window.dirty})
            kept = False
            try:
                self._write(records, offsets)
                kept = True
            except BrokerError as error:
                _logger.warning("Gave up partitions without a last commit: %s", error)
            with self.lock:
                for holding in held:
                    holding.shelf = None
                    if not kept:
                        self.holdings.remove(holding)
                for shelf in shelves:
                    self.stock.drop(shelf.place)

    def lost(self, places: Collection[Place]) -> None:
        """Note that partitions have gone to others already, with what was held of them."""
        with self.commits, self.lock:
            for place in places:
                if shelf := self.stock.drop(place):
                    for holding in self.holdings.of(shelf):
                        self.holdings.remove(holding)

    def tend(self) -> None:
        """End leases that nobody has renewed, and offer what has become due."""
        with self.lock:
            for holding in self.holdings.expired():
                if holding.shelf is not None:
                    self.stock.put_back(holding.shelf, holding.entry)
            self.stock.wake()
            overdue = bool(self.stock.overdue)
        if overdue:
            self._send_on()

    def flush(self) -> None:
        """Commit what has changed since the last commit."""
        with self.commits:
            with self.lock:
                shelves = {one for one in self.stock.shelves.values() if one.window.dirty}
                offsets = self._snapshots(shelves)
            try:
                self._committer.commit(offsets)
            except BrokerError:
                with self.lock:
                    for shelf in shelves:
                        shelf.window.dirty = True
                raise

    def _settle(self, held: Sequence[tuple[Holding, Verdict]]) -> set[Holding]:
        """Settle through a rebalance; return what it has taken away."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return self._try_to_settle(held)
            except RegroupingError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_REGROUPING_TAKES)

    def _try_to_settle(self, held: Sequence[tuple[Holding, Verdict]]) -> set[Holding]:
        settlement = Settlement(self.topics)
        with self.commits:
            with self.lock:
                still = {id(one) for one in self.holdings}
                try:
                    for holding, verdict in held:
                        if id(holding) in still:
                            settlement.add(holding, verdict)
                except MessageTooLargeError:
                    settlement.roll_back()
                    raise
                offsets = self._snapshots(settlement.touched)
            try:
                self._write(settlement.records, offsets)
            except BrokerError as error:
                with self.lock:
                    settlement.roll_back()
                if isinstance(error, InDoubtError):
                    self.start_over()
                raise
            with self.lock:
                for holding, _ in held:
                    self.holdings.remove(holding)
                for holding in settlement.put_back():
                    if holding.shelf is not None:
                        self.stock.put_back(holding.shelf, holding.entry)
        return {holding for holding, _ in held if id(holding) not in still}

    def _send_on(self) -> None:
        """Move what stays in a retry topic for too long to the one for what is left of its delay."""
        with self.commits:
            with self.lock:
                found, self.stock.overdue = self.stock.overdue, []
                counts = [(shelf.window.settle(entry.offset)) for shelf, entry in found]
                records = [
                    record.moved(
                        entry,
                        self.topics.retry_for(record.until(entry.due)),
                        deliveries=entry.deliveries + count,
                        due=entry.due,
                    )
                    for (_, entry), count in zip(found, counts, strict=True)
                ]
                offsets = self._snapshots({shelf for shelf, _ in found})
            try:
                self._write(records, offsets)
            except BrokerError:
                with self.lock:
                    for (shelf, entry), count in zip(found, counts, strict=True):
                        shelf.window.reopen(entry.offset, count)
                    self.stock.overdue += [one for one in found if one[0].owned]
                raise

    def _write(self, records: Sequence[Record], offsets: Offsets) -> None:
        if records:
            self._committer.transact(records, offsets)
        else:
            self._committer.commit(offsets)

    def _promise(self, holding: Holding, *, until: float | None = None) -> Record:
        """The record that says until when a message is held without its partition."""
        left = self._lease.total_seconds() if until is None else until - time.monotonic()
        return record.parked(
            holding.entry,
            self.topics.held,
            holding.handle,
            deliveries=holding.deliveries,
            due=now_ms() + max(1, int(left * 1_000)),
        )

    def _snapshots(self, shelves: Collection[Shelf]) -> Offsets:
        offsets: dict[Place, tuple[int, str]] = {}
        for shelf in shelves:
            if shelf.owned:
                offsets[shelf.place] = shelf.window.snapshot()
                shelf.window.dirty = False
        return offsets


def _lost(delivery: Delivery) -> LeaseLostError:
    return LeaseLostError(
        f"{delivery.queue}: message {delivery.id} is no longer held: its lease has ended, or it "
        "was settled before"
    )
