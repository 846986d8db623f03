"""The thread that keeps a session in a queue's consumer group, and reads what it is assigned.

A member is in the group only while it receives. When nobody has asked it for a while, it leaves, so
that its partitions go to somebody who does. What it holds then stays with it: each of these
messages is moved to the queue's topic of leases, `<queue>.held`, in one transaction with the commit
that passes over it; and there its record lies, as a promise that it is worked on until a time that
the record names. A tombstone ends the promise, a newer record prolongs it, and when the time has
passed, the owner of that topic delivers the message again. A rebalance does the same, so that it
takes away nothing that is worked on.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from re import Pattern
from typing import Any, Final

from confluent_kafka import KafkaException

from blocks.errors import BrokerError, BrokerUnavailableError
from blocks.kafka_broker.committer import Committer
from blocks.kafka_broker.errors import name_of
from blocks.kafka_broker.member import Member
from blocks.kafka_broker.names import QueueTopics, group_of, is_internal
from blocks.kafka_broker.stock import Place, Shelf
from blocks.kafka_broker.window import Window
from blocks.kafka_broker.wire import Consumer, TopicPartition, Wire

#: How long a poll blocks, and so how late an ended lease or a due message may be noticed.
_POLL: Final = 0.05
_BATCH: Final = 1_000
_FLUSH_EVERY: Final = 0.1
_TROUBLE_PAUSES: Final = 1.0
#: How long a full shelf holds up the reading of others before its partition is paused.
_PATIENCE: Final = 0.1
#: Who holds nothing leaves after so much silence; who holds something, after half a lease.
_SILENCE: Final = 2.0
_LEAVING_TAKES: Final = 5.0
_PATTERNS_EVERY: Final = 1.0

_logger = logging.getLogger(__name__)


class Membership:
    """Joins, reads, leaves."""

    def __init__(self, wire: Wire, topics: QueueTopics, stir: Callable[[], None]) -> None:
        self._wire = wire
        self._topics = topics
        self._stir = stir
        self._timeout = wire.endpoint.timeout.total_seconds()
        self._half_a_lease = wire.endpoint.lease.total_seconds() / 2
        self._consumer: Consumer = wire.member(group_of(wire.endpoint.group, topics.queue))
        self._committer = Committer(wire, self._consumer)
        self.member = Member(wire, topics, self._committer)
        self.member.start_over = self._start_over
        self._subscribed: frozenset[str] = frozenset()
        self._extra: set[str] = set()
        self._patterns: set[Pattern[str]] = set()
        #: Where to begin in partitions of a topic that this session was the first to subscribe to.
        self.begin_at: dict[Place, int] = {}
        self._asked_at = float("-inf")
        self._asking = 0
        self._flush_at = self._patterns_at = 0.0
        self._leave_now = self._closing = False
        self._awake = threading.Event()
        self.trouble: BrokerError | None = None
        self._thread = threading.Thread(target=self._run, name=f"kafka-{topics.queue}", daemon=True)
        self._thread.start()

    def subscribe(self, topic: str) -> None:
        """Read a topic beside the queue's own."""
        self._extra.add(topic)

    def subscribe_to_all(self, pattern: Pattern[str]) -> None:
        """Read all topics that match, those to come included."""
        self._patterns.add(pattern)
        self._patterns_at = 0.0

    def asks(self) -> None:
        """Note that somebody has begun to wait for messages."""
        self._asking += 1
        self._asked_at = time.monotonic()
        self._awake.set()

    def asks_no_more(self) -> None:
        """Note that somebody has stopped waiting."""
        self._asking -= 1
        self._asked_at = time.monotonic()

    def close(self) -> None:
        """Leave the group and end the thread; blocks."""
        self._closing = True
        self._awake.set()
        self._thread.join()

    def _start_over(self) -> None:
        """Forget everything, leave, and join again for the next who asks."""
        self.member.lost(list(self.member.stock.shelves))
        self._leave_now = True

    def _run(self) -> None:
        while not self._closing:
            try:
                self._step()
            except (KafkaException, BrokerError) as error:
                told = error if isinstance(error, BrokerError) else self._wire.told(error)
                _logger.warning("The consumer of %s: %s", self._topics.queue, told)
                self._awake.wait(_TROUBLE_PAUSES if self._closing else _POLL)
            except Exception:
                _logger.exception("The consumer of %s failed", self._topics.queue)
                self._awake.wait(_TROUBLE_PAUSES)
        self._consumer.close()

    def _step(self) -> None:
        wanted = self._wanted
        if not self._subscribed and not wanted:
            self.member.tend()
            self._awake.wait(_POLL)
            self._awake.clear()
            return
        if self._leave_now or not wanted:
            self._leave()
            return
        self._join()
        if not self._is_held_up():
            self._read(self._consumer.poll(_POLL))
        self._tend()

    @property
    def _wanted(self) -> bool:
        silence = time.monotonic() - self._asked_at
        most = self._half_a_lease
        if not len(self.member.holdings):
            most = min(most, _SILENCE)
        return self._asking > 0 or silence < most

    def _join(self) -> None:
        now = time.monotonic()
        if self._subscribed and (not self._patterns or now < self._patterns_at):
            return
        topics = frozenset({*self._topics.consumed, *self._extra, *self._matching()})
        self._patterns_at = now + _PATTERNS_EVERY
        if topics == self._subscribed:
            return
        self._consumer.subscribe(
            sorted(topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        self._subscribed = topics
        # While the group makes up its mind: a rebalance will be no time for it.
        self._committer.prepare()

    def _matching(self) -> set[str]:
        if not self._patterns:
            return set()
        known: dict[str, Any] = self._consumer.list_topics(timeout=self._timeout).topics
        return {
            topic
            for topic in known
            if not is_internal(topic) and any(one.fullmatch(topic) for one in self._patterns)
        }

    def _leave(self) -> None:
        self._leave_now, self._subscribed = False, frozenset()
        self._consumer.unsubscribe()
        deadline = time.monotonic() + _LEAVING_TAKES
        while self._consumer.assignment() and time.monotonic() < deadline and not self._closing:
            self._read(self._consumer.poll(_POLL))

    def _is_held_up(self) -> bool:
        """Wait a little for room; where none is made, pause what is full, and read on."""
        deadline = time.monotonic() + _PATIENCE
        while any(one.full and not one.paused for one in self._shelves):
            if time.monotonic() >= deadline or self._closing:
                self._pause([one for one in self._shelves if one.full])
                break
            self._stir()
            time.sleep(_POLL / 10)
        self._resume([one for one in self._shelves if one.paused and one.has_room])
        return False

    @property
    def _shelves(self) -> list[Shelf]:
        with self.member.lock:
            return list(self.member.stock.shelves.values())

    def _pause(self, shelves: Sequence[Shelf]) -> None:
        if shelves:
            self._consumer.pause([TopicPartition(*one.place) for one in shelves])
        for shelf in shelves:
            shelf.paused = True

    def _resume(self, shelves: Sequence[Shelf]) -> None:
        if shelves:
            self._consumer.resume([TopicPartition(*one.place) for one in shelves])
        for shelf in shelves:
            shelf.paused = False

    def _read(self, first: Any) -> None:
        if first is None:
            return
        messages = [first, *self._consumer.consume(_BATCH, 0)]
        with self.member.lock:
            for message in messages:
                if (error := message.error()) is None:
                    self.member.stock.admit(message)
                elif name_of(error) == "_PARTITION_EOF":
                    place = message.topic(), message.partition()
                    self.member.stock.reach_end(place, message.offset())
                else:
                    self._note(error)
                    continue
                self._wire.is_alive()

    def _note(self, error: Any) -> None:
        told = self._wire.told(error)
        if not isinstance(told, BrokerUnavailableError):
            self.trouble = told

    def _tend(self) -> None:
        self.member.tend()
        with self.member.lock:
            offers = self.member.stock.offers
        if offers:
            self._stir()
        now = time.monotonic()
        if now >= self._flush_at:
            self._flush_at = now + _TROUBLE_PAUSES
            self.member.flush()
            self._flush_at = now + _FLUSH_EVERY

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        shelves = [self._shelf(one) for one in self._committed(partitions)]
        self.trouble = None
        self.member.assigned(shelves)
        self._consumer.incremental_assign(
            [TopicPartition(*one.place, one.window.end) for one in shelves]
        )

    def _committed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Ask where the group is, for as long as it takes: nothing can be read before."""
        if not partitions:
            return []
        while True:
            try:
                committed = self._consumer.committed(partitions, timeout=self._timeout)
                if not any(one.error for one in committed):
                    return committed
            except KafkaException as error:
                _logger.warning("Where %s is: %s", self._topics.queue, self._wire.told(error))
            if self._closing:
                return []
            time.sleep(_POLL)

    def _shelf(self, committed: TopicPartition) -> Shelf:
        topic, partition, offset = committed.topic, committed.partition, committed.offset
        if offset < 0 and (begin := self.begin_at.get((topic, partition))) is not None:
            window = Window(begin)
            window.dirty = True
            return Shelf(topic, partition, window)
        if offset < 0:
            marks = self._consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=self._timeout
            )
            offset = marks[0] if marks else 0
        return Shelf(topic, partition, Window(offset, committed.metadata or ""))

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.member.revoked([(one.topic, one.partition) for one in partitions])

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self.member.lost([(one.topic, one.partition) for one in partitions])
