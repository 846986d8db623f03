"""pika: a quorum queue, publisher confirms; consuming with prefetch, many acknowledged at once."""

from typing import Any
from uuid import uuid4

import pika

from tests.benchmarks.bare.client import BATCH, BODY


class BareRabbitMQ:
    """See `BareClient`."""

    def __init__(self, url: str) -> None:
        self._queue = f"bare-{uuid4().hex}"
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel: Any = self._connection.channel()
        self._channel.queue_declare(self._queue, durable=True, arguments={"x-queue-type": "quorum"})
        self._channel.confirm_delivery()

    def publish(self, messages: int) -> None:
        persistent = pika.BasicProperties(delivery_mode=2)
        for _ in range(messages):
            self._channel.basic_publish("", self._queue, BODY, persistent, mandatory=True)

    def drain(self, messages: int) -> None:
        channel = self._connection.channel()
        channel.basic_qos(prefetch_count=2 * BATCH)
        for taken, (method, _, _) in enumerate(channel.consume(self._queue), start=1):
            assert method is not None
            if taken % BATCH == 0:
                channel.basic_ack(method.delivery_tag or 0, multiple=True)
            if taken == messages:
                break
        channel.cancel()
        channel.close()

    def close(self) -> None:
        self._channel.queue_delete(self._queue)
        self._connection.close()
