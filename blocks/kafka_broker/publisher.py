"""Publishing: an idempotent producer, whose own thread tells when Kafka has answered."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import uuid4

from confluent_kafka import KafkaException

from blocks.errors import BrokerError, BrokerUnavailableError, UnsupportedError
from blocks.kafka_broker.errors import translate
from blocks.kafka_broker.names import QueueTopics
from blocks.kafka_broker.record import Record, encode
from blocks.kafka_broker.settlement import AT_ONCE
from blocks.kafka_broker.wire import Producer, Wire
from blocks.message import DEFAULT_PRIORITY, Message, Published

_POLL: Final = 0.1
#: Of one call, at most so many are in the driver's queue at a time; it takes 100,000.
_CHUNK: Final = 5_000


def record_of(message: Message, topics: QueueTopics, message_id: str) -> Record:
    """The record to publish: a delayed message goes to a retry topic."""
    delayed = message.delay > AT_ONCE
    topic = topics.retry_for(message.delay) if delayed else topics.queue
    return _checked(message, topic, message_id)


def broadcast_record_of(message: Message, topic: str, message_id: str) -> Record:
    """The record to broadcast."""
    if message.delay > AT_ONCE:
        raise UnsupportedError("a broadcast can't be delayed; publish to a queue instead")
    return _checked(message, topic, message_id)


class Publisher:
    """One producer, made when it is first used."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._producer: Producer | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    async def publish(
        self, messages: Sequence[Message], write: Callable[[Message, str], Record]
    ) -> list[Published]:
        """Publish; Kafka has answered for each message that gets an id.

        When the connection breaks while the answer is awaited, the messages may have been added or
        not; who publishes them again gives them ids of his own, so that both carry the same.
        """
        outcomes: list[Published] = []
        for begin in range(0, len(messages), _CHUNK):
            outcomes += await self._publish(messages[begin : begin + _CHUNK], write)
        errors = [one.error for one in outcomes]
        unavailable = [one for one in errors if isinstance(one, BrokerUnavailableError)]
        if errors and len(unavailable) == len(errors):
            raise unavailable[0]
        return outcomes

    def close(self) -> None:
        """Wait for what was produced, and end the thread; blocks."""
        if self._producer is not None and self._thread is not None:
            self._producer.purge()
            self._closing.set()
            self._thread.join()

    async def _publish(
        self, messages: Sequence[Message], write: Callable[[Message, str], Record]
    ) -> list[Published]:
        producer = self._open()
        call = _Call(len(messages), self._wire)
        for place, message in enumerate(messages):
            message_id = message.id or uuid4().hex
            try:
                record = write(message, message_id)
                producer.produce(
                    record.topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    on_delivery=call.answer_for(place, message_id),
                )
            except BrokerError as error:
                call.answer(place, Published(error=error))
            except (KafkaException, BufferError) as error:
                call.answer(place, Published(error=self._wire.told(error)))
        return await call.answered

    def _open(self) -> Producer:
        if self._producer is None:
            self._producer = self._wire.producer()
            self._thread = threading.Thread(
                target=self._poll, args=(self._producer,), name="kafka-publisher", daemon=True
            )
            self._thread.start()
        return self._producer

    def _poll(self, producer: Producer) -> None:
        while not self._closing.is_set():
            producer.poll(_POLL)
        producer.poll(0)


class _Call:
    """The outcomes of one call; its future is done when the last one is known."""

    def __init__(self, count: int, wire: Wire) -> None:
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self._outcomes: list[Published | None] = [None] * count
        self._missing = count
        self._lock = threading.Lock()
        self.answered: asyncio.Future[list[Published]] = self._loop.create_future()
        if not count:
            self.answered.set_result([])

    def answer_for(self, place: int, message_id: str) -> Callable[[Any, Any], None]:
        """What the driver calls, in another thread."""

        def answer(error: Any, _: Any) -> None:
            if error is None:
                self.answer(place, Published(id=message_id))
            else:
                told = translate(error, self._wire.endpoint.address)
                self.answer(place, Published(error=told))

        return answer

    def answer(self, place: int, outcome: Published) -> None:
        """Note one outcome."""
        with self._lock:
            self._outcomes[place] = outcome
            self._missing -= 1
            if self._missing:
                return
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self.answered.done():
            self.answered.set_result([one for one in self._outcomes if one is not None])


def _checked(message: Message, topic: str, message_id: str) -> Record:
    if message.priority != DEFAULT_PRIORITY:
        raise UnsupportedError(
            f"priority {message.priority}: a Kafka topic has none; use a queue for each"
        )
    return encode(message, topic, message_id)
