"""Topics as somebody administers them: making them, checking them, beginning to read them.

Blocking, each call for the time-out at most.
"""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from datetime import timedelta
from typing import Any, Final, TypeVar

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaException,
    TopicCollection,
)
from confluent_kafka.admin import NewTopic, OffsetSpec

from blocks.errors import UnroutableError
from blocks.kafka_broker.endpoint import MAX_RECORD_BYTES
from blocks.kafka_broker.errors import name_of
from blocks.kafka_broker.names import QueueTopics, group_of
from blocks.kafka_broker.stock import Place
from blocks.kafka_broker.wire import TopicPartition, Wire

T = TypeVar("T")
#: Place → committed offset and metadata.
Committed = Mapping[Place, tuple[int, str]]

_MILLISECOND: Final = timedelta(milliseconds=1)
_MISSING: Final = "UNKNOWN_TOPIC_OR_PART"
_NO_LEADER: Final = ("NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE", _MISSING)
_LEADERS_TAKE: Final = 0.02
_EXISTS: Final = "TOPIC_ALREADY_EXISTS"
_INTERNAL: Final = {"max.message.bytes": str(MAX_RECORD_BYTES)}


class Topics:
    """The topics of a cluster, for one session."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._endpoint = wire.endpoint
        self._timeout = wire.endpoint.timeout.total_seconds()
        self._known: set[str] = set()

    def declare(self, topics: QueueTopics) -> None:
        """Make what the queue lacks, or say what it is.

        Raises:
            UnroutableError: A topic is missing, and none may be made.
        """
        self._declare(
            [
                self._queue(topics.queue),
                *(self._inner(name) for name in (topics.held, *topics.retries)),
                self._inner(topics.dead, {"cleanup.policy": "compact"}),
            ]
        )

    def ensure(self, topic: str) -> None:
        """Make a topic that is broadcast to or subscribed to."""
        self._declare([self._queue(topic)])

    def partitions(self, names: Iterable[str]) -> list[Place]:
        """All partitions of topics; of those that are missing, none."""
        return [
            (topic, partition) for topic, count in self._counts(names) for partition in range(count)
        ]

    def all_names(self) -> list[str]:
        """The topics of the cluster that the user may see."""
        try:
            return list(self._wire.admin.list_topics(timeout=self._timeout).topics)
        except KafkaException as error:
            raise self._wire.told(error) from error

    def committed(self, queue: str) -> Committed:
        """Where the group of a queue is."""
        request = ConsumerGroupTopicPartitions(group_of(self._endpoint.group, queue))
        # Stable: those of a transaction that has just been committed included.
        futures = self._wire.admin.list_consumer_group_offsets(
            [request], require_stable=True, request_timeout=self._timeout
        )
        [answer] = [self._result(future) for future in futures.values()]
        return {
            (one.topic, one.partition): (one.offset, one.metadata or "")
            for one in answer.topic_partitions
            if one.offset >= 0 and one.error is None
        }

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Up to where partitions can be read."""
        return self._offsets(places, OffsetSpec.latest())

    def starts(self, places: Iterable[Place]) -> dict[Place, int]:
        """From where on partitions can be read."""
        return self._offsets(places, OffsetSpec.earliest())

    def begin_here(self, queue: str, topics: Iterable[str]) -> dict[Place, int]:
        """Let the group of a queue begin with what comes from now on, where it hasn't begun.

        Returns:
            The partitions where that is left to a member of the group, as only members may commit
            while there are any.
        """
        begun = self.committed(queue)
        ends = self.ends(place for place in self.partitions(topics) if place not in begun)
        if not ends:
            return {}
        positions = [TopicPartition(*place, end) for place, end in ends.items()]
        group = group_of(self._endpoint.group, queue)
        futures = self._wire.admin.alter_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group, positions)], request_timeout=self._timeout
        )
        try:
            [answer] = [future.result(self._timeout + 1) for future in futures.values()]
        except KafkaException:
            return ends
        return {
            (one.topic, one.partition): ends[one.topic, one.partition]
            for one in answer.topic_partitions
            if one.error is not None
        }

    def _declare(self, wanted: Iterable[NewTopic]) -> None:
        missing = {one.topic: one for one in wanted if one.topic not in self._known}
        if not missing:
            return
        found = dict(self._counts(missing))
        self._known |= found.keys()
        create = [one for name, one in missing.items() if name not in found]
        if create and not self._endpoint.declare_topics:
            names = ", ".join(one.topic for one in create)
            raise UnroutableError(
                f"{self._endpoint.address} has no topic {names}; make it, or let the block's "
                "`declare_topics` be true"
            )
        if create:
            self._create(create)

    def _create(self, topics: list[NewTopic]) -> None:
        futures = self._wire.admin.create_topics(topics, request_timeout=self._timeout)
        for name, future in futures.items():
            try:
                future.result(self._timeout + 1)
            except KafkaException as error:
                if name_of(error) != _EXISTS:
                    raise self._wire.told(error) from error
            except TimeoutError as error:
                raise self._wire.told(error) from error
            self._known.add(name)

    def _counts(self, names: Iterable[str]) -> list[tuple[str, int]]:
        """How many partitions each has of those topics that exist."""
        names = list(names)
        if not names:
            return []
        futures = self._wire.admin.describe_topics(
            TopicCollection(names), request_timeout=self._timeout
        )
        counts: list[tuple[str, int]] = []
        for name, future in futures.items():
            try:
                counts.append((name, len(future.result(self._timeout + 1).partitions)))
            except KafkaException as error:
                if name_of(error) != _MISSING:
                    raise self._wire.told(error) from error
            except TimeoutError as error:
                raise self._wire.told(error) from error
        return counts

    def _offsets(self, places: Iterable[Place], spec: OffsetSpec) -> dict[Place, int]:
        wanted = {TopicPartition(*place): spec for place in places}
        deadline = time.monotonic() + self._timeout
        while wanted:
            futures = self._wire.admin.list_offsets(
                wanted,
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=self._timeout,
            )
            try:
                return {
                    (one.topic, one.partition): future.result(self._timeout + 1).offset
                    for one, future in futures.items()
                }
            except (KafkaException, TimeoutError) as error:
                # A topic that was just made has no leaders for a moment.
                if name_of(error) not in _NO_LEADER or time.monotonic() > deadline:
                    raise self._wire.told(error) from error
                time.sleep(_LEADERS_TAKE)
        return {}

    def _result(self, future: "Future[T]") -> T:
        try:
            return future.result(self._timeout + 1)
        except (KafkaException, TimeoutError) as error:
            raise self._wire.told(error) from error

    def _queue(self, name: str) -> NewTopic:
        endpoint = self._endpoint
        retention = {"retention.ms": str(endpoint.retention // _MILLISECOND)}
        return NewTopic(name, endpoint.partitions, endpoint.replication_factor, config=retention)

    def _inner(self, name: str, config: Mapping[str, Any] | None = None) -> NewTopic:
        retention = {"retention.ms": str(self._endpoint.retention // _MILLISECOND)}
        return NewTopic(
            name,
            1,
            self._endpoint.replication_factor,
            config={**(config or retention), **_INTERNAL},
        )
