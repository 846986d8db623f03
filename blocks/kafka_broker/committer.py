"""Writing down what was settled: commits of offsets, and transactions that hold one.

Blocking, and used by one thread at a time: whoever calls holds the member's `commits` lock.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from confluent_kafka import KafkaError, KafkaException

from blocks.errors import BrokerError, BrokerUnavailableError
from blocks.kafka_broker.errors import is_regrouping
from blocks.kafka_broker.record import Record
from blocks.kafka_broker.stock import Place
from blocks.kafka_broker.wire import Consumer, Producer, TopicPartition, Wire

#: Place → offset and metadata, as `Window.snapshot` has them.
Offsets = Mapping[Place, tuple[int, str]]


class RegroupingError(BrokerUnavailableError):
    """The group is about to say whose the partitions are; nothing was written."""


class InDoubtError(BrokerUnavailableError):
    """A transaction may have been carried out, or not."""


class Committer:
    """Commits for one consumer; without one, transactions alone."""

    def __init__(self, wire: Wire, consumer: Consumer | None, name: str = "") -> None:
        self._wire = wire
        self._consumer = consumer
        self._timeout = wire.endpoint.timeout.total_seconds()
        self._name = name or f"{wire.endpoint.group}.{uuid4().hex}"
        self._producer: Producer | None = None

    def commit(self, offsets: Offsets) -> None:
        """Commit offsets; on the broker when it returns.

        Raises:
            RegroupingError: Try again, for what is still one's own then.
            BrokerUnavailableError, BrokerRefusedError: They may have been committed, or not.
        """
        if not offsets or self._consumer is None:
            return
        try:
            committed = self._consumer.commit(offsets=_positions(offsets), asynchronous=False)
        except KafkaException as error:
            raise self._told(error) from error
        for one in committed or ():
            if one.error is not None:
                raise self._told(one.error)
        self._wire.is_alive()

    def transact(self, records: Sequence[Record], offsets: Offsets) -> None:
        """Produce records and commit offsets: all of it, or nothing.

        Raises:
            RegroupingError: Nothing was written; try again, for what is still one's own then.
            InDoubtError: Nobody knows until the producer is made anew.
            BrokerUnavailableError, BrokerRefusedError: Nothing was written.
        """
        producer, outcomes = self.prepare(), _Outcomes()
        try:
            producer.begin_transaction()
            for one in records:
                produce(producer, one, outcomes)
            if offsets and self._consumer is not None:
                group = self._consumer.consumer_group_metadata()
                producer.send_offsets_to_transaction(_positions(offsets), group, self._timeout)
        except (KafkaException, BufferError) as error:
            self._abort(producer)
            raise self._told(error) from error
        self._conclude(producer, outcomes)

    def prepare(self) -> Producer:
        """Make the producer ready, which also ends what a predecessor of its name has left open."""
        if self._producer is None:
            producer = self._wire.transactions(self._name)
            try:
                producer.init_transactions(self._timeout)
            except KafkaException as error:
                raise self._told(error) from error
            self._producer = producer
        return self._producer

    def _conclude(self, producer: Producer, outcomes: "_Outcomes") -> None:
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                producer.commit_transaction(max(0.1, deadline - time.monotonic()))
            except KafkaException as error:
                inner: KafkaError = error.args[0]
                if inner.txn_requires_abort() and not inner.fatal():
                    self._abort(producer)
                    raise self._told(outcomes.error or error) from error
                if inner.retriable() and time.monotonic() < deadline:
                    continue
                self._producer = None
                raise InDoubtError(str(self._told(error))) from error
            self._wire.is_alive()
            return

    def _abort(self, producer: Producer) -> None:
        """Undo; where that fails, a new producer of the same name will."""
        try:
            producer.abort_transaction(self._timeout)
        except KafkaException:
            self._producer = None

    def _told(self, error: Any) -> BrokerError:
        told = self._wire.told(error)
        return RegroupingError(str(told)) if is_regrouping(error) else told


class _Outcomes:
    """What became of the records of a transaction, as the driver tells one by one."""

    def __init__(self) -> None:
        #: The first thing that went wrong.
        self.error: Any = None

    def __call__(self, error: Any, _: Any) -> None:
        """Note one."""
        self.error = self.error or error


def produce(producer: Producer, record: Record, on_delivery: Any) -> None:
    """Hand a record to the driver, waiting for room in its queue."""
    while True:
        try:
            producer.produce(
                record.topic,
                value=record.value,
                key=record.key,
                headers=list(record.headers),
                on_delivery=on_delivery,
            )
        except BufferError:
            producer.poll(0.05)
        else:
            return


def _positions(offsets: Offsets) -> list[TopicPartition]:
    return [
        TopicPartition(topic, partition, offset, metadata)
        for (topic, partition), (offset, metadata) in offsets.items()
    ]
