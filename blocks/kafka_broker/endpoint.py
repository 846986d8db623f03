"""Where a Kafka is, and how its driver is told so."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

#: Of one consumer, in kilobytes: what is fetched ahead of its own buffers.
_FETCHED_AHEAD: Final = 16_384
#: Of a dead consumer, before its partitions go elsewhere: Kafka's own default at most.
_LONGEST_SESSION: Final = timedelta(seconds=45)
_MILLISECOND: Final = timedelta(milliseconds=1)
#: Topics of a queue's inner works take more than Kafka's usual megabyte, for the headers we add.
MAX_RECORD_BYTES: Final = 8 * 1024 * 1024

Settings = dict[str, str | int | float | bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """What is said to every client, and what to declare queues with."""

    address: str
    servers: str
    security: Settings
    group: str
    lease: timedelta
    timeout: timedelta
    declare_topics: bool
    partitions: int
    replication_factor: int
    retention: timedelta

    def client(self) -> Settings:
        """What all clients have in common.

        https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
        """
        return {
            "bootstrap.servers": self.servers,
            "client.id": "noa-flows",
            "log_level": 0,
            "socket.timeout.ms": self.timeout // _MILLISECOND,
            "socket.connection.setup.timeout.ms": max(1_000, self.timeout // _MILLISECOND),
            "socket.keepalive.enable": True,
            "socket.nagle.disable": True,
            # Doubled each time, with jitter.
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 2_000,
            # A transaction may begin only once the last one's markers are written, in milliseconds.
            "retry.backoff.ms": 10,
            "retry.backoff.max.ms": 1_000,
            "allow.auto.create.topics": False,
            **self.security,
        }

    def producer(self) -> Settings:
        """One that repeats nothing and keeps the order, however often it has to send again."""
        return {
            **self.client(),
            "enable.idempotence": True,
            # What Kafka's Java client and kafkajs do with a key.
            "partitioner": "murmur2_random",
            # Without a key, messages spread evenly however few they are.
            "sticky.partitioning.linger.ms": 0,
            "linger.ms": 1,
            "message.timeout.ms": self.timeout // _MILLISECOND,
            "message.max.bytes": MAX_RECORD_BYTES,
        }

    def transactions(self, name: str) -> Settings:
        """A producer that writes to several partitions at once, or to none."""
        return {
            **self.producer(),
            "transactional.id": name,
            # Nobody reads past the open transaction of a producer that was killed.
            "transaction.timeout.ms": 2 * self.timeout // _MILLISECOND,
        }

    def reader(self) -> Settings:
        """A consumer that sees no transaction before it is committed."""
        return {
            **self.client(),
            "group.id": f"{self.group}.readers",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            # An empty fetch holds up what comes next on the same connection.
            "fetch.wait.max.ms": 20,
            "fetch.error.backoff.ms": 100,
            "fetch.queue.backoff.ms": 10,
            "queued.max.messages.kbytes": _FETCHED_AHEAD,
        }

    def member(self, group: str) -> Settings:
        """A consumer in the group of a queue."""
        session = min(self.lease, _LONGEST_SESSION) // _MILLISECOND
        return {
            **self.reader(),
            "group.id": group,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": session,
            "heartbeat.interval.ms": min(3_000, session // 4),
            # Nobody has to look after the event loop: the session's own thread polls.
            "max.poll.interval.ms": max(300_000, session),
        }
