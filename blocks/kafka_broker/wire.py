"""The Kafka driver: the making of its clients, and what they say of the connection."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Any, Final

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from blocks.errors import BrokerError, BrokerRefusedError
from blocks.kafka_broker.endpoint import Endpoint
from blocks.kafka_broker.errors import is_refusal, translate

_ALL_DOWN: Final = "_ALL_BROKERS_DOWN"
_SIGN_OF_LIFE_LASTS: Final = 2.0
_POLL: Final = 0.02

__all__ = ["Consumer", "Producer", "TopicPartition", "Wire"]


class Wire:
    """The clients of one session, and whether the brokers can be reached.

    librdkafka connects again by itself, and calls wait for it meanwhile. So that they don't have
    to, what its threads tell of lost connections is noted here, and looked into by `check`.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._trouble: BrokerError | None = None
        self._alive_at = float("-inf")
        self._lock = Lock()
        self.admin = AdminClient({**endpoint.client(), "error_cb": self._on_error})

    def producer(self) -> Producer:
        """A producer for messages that are published."""
        return Producer({**self.endpoint.producer(), "error_cb": self._on_error})

    def transactions(self, name: str) -> Producer:
        """A producer for transactions; `init_transactions` is still to be called."""
        return Producer({**self.endpoint.transactions(name), "error_cb": self._on_error})

    def reader(self) -> Consumer:
        """A consumer that belongs to no group."""
        return Consumer({**self.endpoint.reader(), "error_cb": self._on_error})

    def member(self, group: str) -> Consumer:
        """A consumer that belongs to the group of a queue."""
        return Consumer({**self.endpoint.member(group), "error_cb": self._on_error})

    def is_alive(self) -> None:
        """Note that a broker has answered."""
        self._alive_at = time.monotonic()
        self._trouble = None

    @property
    def doubtful(self) -> bool:
        """Whether it is time to look: there was an error, or nothing has been heard for long."""
        silent = time.monotonic() - self._alive_at > _SIGN_OF_LIFE_LASTS
        return self._trouble is not None or silent

    def check(self) -> None:
        """Ask for a sign of life; blocks for the time-out at most.

        Raises:
            BrokerUnavailableError: Nobody answers.
            BrokerRefusedError: The credentials or the certificate are wrong.
        """
        with self._lock:
            if self.doubtful:
                self._check(self.endpoint.timeout.total_seconds())

    def told(self, error: Any) -> BrokerError:
        """Translate an error; after one of the connection, the next call looks first."""
        told = translate(error, self.endpoint.address)
        return told

    def _check(self, seconds: float) -> None:
        self._trouble = None
        answer = self.admin.describe_cluster(request_timeout=seconds)
        deadline = time.monotonic() + seconds
        while not answer.done() and self._trouble is None and time.monotonic() < deadline:
            self.admin.poll(_POLL)
        trouble: BrokerError | None = self._trouble
        if trouble is not None:
            raise trouble
        try:
            answer.result(timeout=max(0.0, deadline - time.monotonic()) + _POLL)
        except Exception as error:
            self._trouble = translate(error, self.endpoint.address)
            raise self._trouble from error
        self.is_alive()

    def _on_error(self, error: Any) -> None:
        told = translate(error, self.endpoint.address)
        if isinstance(self._trouble, BrokerRefusedError):
            return  # the first cause; that all brokers are down follows from it
        if is_refusal(error) or error.name() == _ALL_DOWN or self._trouble is None:
            self._trouble = told


Callback = Callable[[Any, list[TopicPartition]], None]
