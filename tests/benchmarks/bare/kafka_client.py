"""confluent-kafka: an idempotent producer; a consumer of batches that commits after each."""

from typing import Any
from uuid import uuid4

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.benchmarks.bare.client import BATCH, BODY


class BareKafka:
    """See `BareClient`."""

    def __init__(self, bootstrap: str, *, partitions: int) -> None:
        servers: dict[str, Any] = {"bootstrap.servers": bootstrap}
        self._topic = f"bare-{uuid4().hex}"
        admin: Any = AdminClient(servers)
        for made in admin.create_topics([NewTopic(self._topic, partitions, 1)]).values():
            made.result()
        self._producer: Any = Producer({**servers, "enable.idempotence": True})
        self._consumer: Any = Consumer(
            {
                **servers,
                "group.id": self._topic,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 10,
            }
        )
        self._consumer.subscribe([self._topic])

    def publish(self, messages: int) -> None:
        for _ in range(messages // BATCH):
            for _ in range(BATCH):
                self._producer.produce(self._topic, BODY)
            self._producer.flush()

    def drain(self, messages: int) -> None:
        left = messages
        while left > 0:
            records = self._consumer.consume(BATCH, timeout=10)
            left -= sum(1 for one in records if one.error() is None)
            if records:
                self._consumer.commit(asynchronous=True)

    def close(self) -> None:
        self._consumer.close()
