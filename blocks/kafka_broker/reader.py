"""Reading partitions from one offset to their end, beside all groups."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from confluent_kafka import KafkaException

from blocks.errors import BrokerUnavailableError
from blocks.kafka_broker.errors import name_of
from blocks.kafka_broker.record import Entry, read
from blocks.kafka_broker.stock import Place
from blocks.kafka_broker.wire import Consumer, TopicPartition, Wire

_BATCH: Final = 500


class Reader:
    """One consumer that goes wherever it is sent; blocking, for one thread at a time."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._timeout = wire.endpoint.timeout.total_seconds()
        self._consumer: Consumer | None = None

    def scan(self, starts: Mapping[Place, int]) -> Iterator[Entry]:
        """Yield what is committed from these offsets up to where each partition ends now.

        Raises:
            BrokerUnavailableError: Nothing came for as long as the time-out.
        """
        if not starts:
            return
        if self._consumer is None:
            self._consumer = self._wire.reader()
        self._consumer.assign([TopicPartition(*place, at) for place, at in starts.items()])
        try:
            yield from self._until_the_end(self._consumer, set(starts))
        finally:
            self._consumer.unassign()

    def close(self) -> None:
        """Hang up."""
        if self._consumer is not None:
            self._consumer.close()

    def _until_the_end(self, consumer: Consumer, left: set[Place]) -> Iterator[Entry]:
        deadline = time.monotonic() + self._timeout
        while left:
            first = consumer.poll(max(0.0, min(0.2, deadline - time.monotonic())))
            if first is None:
                if time.monotonic() >= deadline:
                    raise BrokerUnavailableError(
                        f"{self._wire.endpoint.address} sent nothing of {sorted(left)}; try again"
                    )
                continue
            deadline = time.monotonic() + self._timeout
            for message in [first, *consumer.consume(_BATCH, 0)]:
                if message.error() is None:
                    yield read(message)
                else:
                    self._pass_end(message, left)

    def _pass_end(self, message: Any, left: set[Place]) -> None:
        error = message.error()
        if name_of(error) == "_PARTITION_EOF":
            left.discard((message.topic(), message.partition()))
        elif not error.retriable():
            told = self._wire.told(error)
            if not isinstance(told, BrokerUnavailableError):
                raise told from KafkaException(error)
