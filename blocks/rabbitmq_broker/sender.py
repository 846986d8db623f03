"""Where a message goes: to its queue, through the delays, to the dead letters, to a topic."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import uuid4

from blocks.errors import BrokerError, MessageNotAllowedError, UnsupportedError
from blocks.message import DEFAULT_PRIORITY, Message, Published
from blocks.rabbitmq_broker.delay_ladder import LONGEST_DELAY, delay_of
from blocks.rabbitmq_broker.outgoing import Outgoing, encode
from blocks.rabbitmq_broker.publisher import Parcel, Publisher
from blocks.rabbitmq_broker.topology import Topology

_AT_ONCE: Final = timedelta(0)


class Sender:
    """Addresses messages and publishes them."""

    def __init__(self, publisher: Publisher, topology: Topology, address: str) -> None:
        self._publisher = publisher
        self._topology = topology
        self._address = address

    @property
    def prioritised(self) -> bool:
        """Whether the queues tell priorities apart."""
        return self._topology.layout.queue_type == "classic"

    async def to_queue(self, queue: str, messages: Sequence[Message]) -> list[Published]:
        """Publish new messages to a queue, at once or after their delay."""
        return await self._publish(queue, messages)

    async def to_topic(self, topic: str, messages: Sequence[Message]) -> list[Published]:
        """Publish new messages to whoever has subscribed."""
        await self._topology.ensure_topics()
        return await self._publish(topic, messages, exchange=self._topology.layout.topic_exchange)

    async def send(self, parcels: Sequence[Parcel]) -> list[BrokerError | None]:
        """Publish what has been addressed, with an error or None for each."""
        return await self._publisher.publish(parcels) if parcels else []

    async def address(self, queue: str, content: Outgoing, delay: timedelta = _AT_ONCE) -> Parcel:
        """Address a message to a queue, through the steps of a delay if it has one.

        Raises:
            MessageNotAllowedError: The delay is above the longest that there are steps for.
        """
        if not delay:
            return Parcel("", queue, content)
        if delay > LONGEST_DELAY:
            raise MessageNotAllowedError(
                f"a delay of {delay} is above {LONGEST_DELAY}, the longest that {self._address} "
                "takes; publish it later"
            )
        way = delay_of(delay)
        await self._topology.ensure_ladder(queue, way)
        return Parcel(way.exchange, way.routing_key(queue), content)

    def address_dead(self, queue: str, content: Outgoing) -> Parcel:
        """Address a message to a queue's dead letters."""
        return Parcel(self._topology.layout.dead_letter_exchange, queue, content)

    async def encode(self, queue: str, message: Message, message_id: str) -> Parcel:
        """Write and address a new message for a queue.

        Raises:
            BrokerError: Why it can't be held.
        """
        return await self.address(queue, self._written(message, message_id), message.delay)

    async def _publish(
        self, key: str, messages: Sequence[Message], *, exchange: str = ""
    ) -> list[Published]:
        outcomes: dict[int, Published] = {}
        parcels: dict[int, Parcel] = {}
        ids = [message.id or uuid4().hex for message in messages]
        for place, message in enumerate(messages):
            try:
                if exchange:
                    content = self._written(message, ids[place])
                    parcels[place] = Parcel(exchange, key, content, mandatory=False)
                else:
                    parcels[place] = await self.encode(key, message, ids[place])
            except BrokerError as error:
                outcomes[place] = Published(error=error)
        errors = await self.send(list(parcels.values()))
        for place, error in zip(parcels, errors, strict=True):
            outcomes[place] = Published(error=error) if error else Published(id=ids[place])
        return [outcomes[place] for place in range(len(messages))]

    def _written(self, message: Message, message_id: str) -> Outgoing:
        if message.priority != DEFAULT_PRIORITY and not self.prioritised:
            raise UnsupportedError(
                f"quorum queues of {self._address} have no priorities, and the message has "
                f"{message.priority}; leave it {DEFAULT_PRIORITY}, or set `queue_type` to classic"
            )
        return encode(message, message_id, prioritised=self.prioritised)
