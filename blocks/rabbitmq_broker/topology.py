"""What has to exist in RabbitMQ: made where that is allowed, else looked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pika.exceptions import ChannelClosedByBroker

from blocks.errors import BrokerRefusedError
from blocks.rabbitmq_broker import delay_ladder as ladder
from blocks.rabbitmq_broker.binding import Binding
from blocks.rabbitmq_broker.channel import Call, Channel, Reply
from blocks.rabbitmq_broker.connection import DeliveringChannel
from blocks.rabbitmq_broker.errors import is_missing
from blocks.rabbitmq_broker.link import Link
from blocks.rabbitmq_broker.names import DUE_EXCHANGE, check_queue, dead_queue, delay_queue

QueueType = Literal["quorum", "classic"]

_HIGHEST_PRIORITY: Final = 9
# How often a message may be given back: who counts decides, and that isn't the broker. But without
# any limit quorum queues put at their end what is given back, and RabbitMQ 4 has one of twenty:
# https://www.rabbitmq.com/docs/quorum-queues#repeated-requeues
_DELIVERY_LIMIT: Final = 2**31 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """What the block says of exchanges and queues."""

    queue_type: QueueType
    #: Whether anything may be made.
    declare: bool
    topic_exchange: str
    dead_letter_exchange: str
    bindings: Sequence[Binding]


class Topology:
    """Declares, or checks, and remembers what is there."""

    def __init__(self, link: Link, layout: Layout) -> None:
        self._link = link
        self.layout = layout
        self._queues: set[str] = set()
        self._exchanges: set[str] = set()
        #: How many steps of the ladder each queue has.
        self._steps: dict[str, int] = {}

    def forget(self, queue: str) -> None:
        """Look again whether a queue is there, before it is used next."""
        self._queues.discard(queue)
        self._steps.pop(queue, None)

    async def ensure(self, queue: str) -> None:
        """Declare or check a queue that this session hasn't seen."""
        if check_queue(queue) not in self._queues:
            await self.declare(queue)

    async def declare(self, queue: str) -> None:
        """Declare or check a queue, with its dead letters and its bindings.

        Raises:
            BrokerRefusedError: Something is missing, or was declared otherwise; says what.
        """
        check_queue(queue)
        if self.layout.declare:
            async with self._link.passing_channel() as channel:
                await self._declare(channel, queue)
        else:
            await self._check(queue)
        self._queues.add(queue)

    async def subscribe(self, queue: str, pattern: str) -> None:
        """Bind a queue to the topic exchange; where nothing may be made, trust in the binding."""
        await self.ensure(queue)
        await self.ensure_topics()
        if not self.layout.declare:
            return
        exchange = self.layout.topic_exchange
        async with self._link.passing_channel() as channel:
            await _bind(channel, queue, exchange, pattern)

    async def ensure_topics(self) -> None:
        """Declare or check the topic exchange."""
        exchange = self.layout.topic_exchange
        if exchange in self._exchanges:
            return
        if self.layout.declare:
            async with self._link.passing_channel() as channel:
                await _make_exchange(channel, exchange, "topic")
        elif not await self._has_exchange(exchange):
            raise self._missing([f"the exchange {exchange!r} (topic)"])
        self._exchanges.add(exchange)

    async def ensure_ladder(self, queue: str, delay: ladder.Delay) -> None:
        """Declare or check the steps that a delay takes, and all that are shorter."""
        wanted = delay.steps[-1] + 1
        there = self._steps.get(queue, 0)
        if wanted <= there:
            return
        if self.layout.declare:
            await self.ensure(queue)
            async with self._link.passing_channel() as channel:
                await self._make_ladder(channel, queue, range(there, wanted))
        else:
            names = [delay_queue(queue, ladder.STEPS[number]) for number in delay.steps]
            if missing := [
                f"the queue {name!r}" for name in names if await self.count(name) is None
            ]:
                raise self._missing(missing)
        self._steps[queue] = max(wanted, self._steps.get(queue, 0))

    async def delayed(self, queue: str) -> int:
        """Count what waits in the steps of a queue's ladder, whoever has made them."""
        total = 0
        for number, step in enumerate(ladder.STEPS):
            count = await self.count(delay_queue(queue, step))
            if count is None:
                break
            self._steps[queue] = max(number + 1, self._steps.get(queue, 0))
            total += count
        return total

    async def count(self, name: str) -> int | None:
        """How many messages of a queue are ready; None where there is no such queue."""

        def look(raw: DeliveringChannel, reply: Reply) -> None:
            raw.queue_declare(name, passive=True, callback=reply)

        frame = await self._ask(look)
        return None if frame is None else frame.method.message_count

    async def _declare(self, channel: Channel, queue: str) -> None:
        dead, dead_exchange = dead_queue(queue), self.layout.dead_letter_exchange
        await _make_exchange(channel, dead_exchange, "direct")
        await _make_exchange(channel, DUE_EXCHANGE, "topic")
        arguments: dict[str, Any] = {
            "x-queue-type": "quorum",
            "x-delivery-limit": _DELIVERY_LIMIT,
        }
        await _make_queue(channel, dead, arguments)
        await _bind(channel, dead, dead_exchange, queue)
        await _make_queue(channel, queue, self._arguments(queue))
        await _bind(channel, queue, DUE_EXCHANGE, ladder.comes_due(queue))
        for binding in self._bindings(queue):
            await _make_exchange(channel, binding.exchange, binding.exchange_type)
            await _bind(
                channel, queue, binding.exchange, binding.routing_key, dict(binding.arguments)
            )

    def _arguments(self, queue: str) -> dict[str, Any]:
        layout = self.layout
        arguments: dict[str, Any] = {
            "x-queue-type": layout.queue_type,
            "x-dead-letter-exchange": layout.dead_letter_exchange,
            "x-dead-letter-routing-key": queue,
        }
        if layout.queue_type == "classic":
            return arguments | {"x-max-priority": _HIGHEST_PRIORITY}
        return arguments | _LOSES_NOTHING | {"x-delivery-limit": _DELIVERY_LIMIT}

    async def _make_ladder(self, channel: Channel, queue: str, numbers: range) -> None:
        if DUE_EXCHANGE not in self._exchanges:
            await _make_exchange(channel, DUE_EXCHANGE, "topic")
            for exchange, following, pattern in ladder.exchanges():
                await _make_exchange(channel, exchange, "topic")
                await _bind_exchange(channel, following, exchange, pattern)
            self._exchanges.add(DUE_EXCHANGE)
        for number in numbers:
            name = delay_queue(queue, ladder.STEPS[number])
            arguments: dict[str, Any] = {
                "x-queue-type": "quorum",
                "x-message-ttl": ladder.STEPS[number],
                "x-dead-letter-exchange": ladder.exchange_of(number - 1),
            }
            await _make_queue(channel, name, arguments | _LOSES_NOTHING)
            await _bind(channel, name, ladder.exchange_of(number), ladder.waits_at(queue, number))

    async def _check(self, queue: str) -> None:
        bindings, layout = self._bindings(queue), self.layout
        exchanges = {layout.dead_letter_exchange, *(one.exchange for one in bindings)}
        missing = [
            f"the queue {name!r}"
            for name in (queue, dead_queue(queue))
            if await self.count(name) is None
        ]
        missing += [
            f"the exchange {name!r}"
            for name in sorted(exchanges)
            if not await self._has_exchange(name)
        ]
        if missing:
            raise self._missing(missing)

    def _missing(self, missing: Sequence[str]) -> BrokerRefusedError:
        return BrokerRefusedError(
            f"{self._link.address} lacks {', '.join(missing)}, and this broker block may not make "
            "it; make it as docs/providers/rabbitmq.md says, or set `declare`"
        )

    def _bindings(self, queue: str) -> list[Binding]:
        return [one for one in self.layout.bindings if one.queue == queue]

    async def _has_exchange(self, name: str) -> bool:
        def look(raw: DeliveringChannel, reply: Reply) -> None:
            raw.exchange_declare(name, passive=True, callback=reply)

        return await self._ask(look) is not None

    async def _ask(self, send: Call) -> Any:
        """Ask on a channel of its own, which a "no" closes; None where there is no such thing."""
        channel = await self._link.channel()
        with self._link.explained():
            try:
                frame = await channel.call(send)
            except ChannelClosedByBroker as error:
                if is_missing(error):
                    return None
                raise
            await channel.close()
        return frame


#: Messages are dead-lettered only once the next queue has confirmed them.
_LOSES_NOTHING: Final = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}


async def _make_queue(channel: Channel, name: str, arguments: dict[str, Any]) -> None:
    await channel.call(
        lambda raw, reply: raw.queue_declare(
            name, durable=True, arguments=arguments, callback=reply
        )
    )


async def _make_exchange(channel: Channel, name: str, kind: str) -> None:
    await channel.call(
        lambda raw, reply: raw.exchange_declare(name, kind, durable=True, callback=reply)
    )


async def _bind(
    channel: Channel, queue: str, exchange: str, key: str, arguments: dict[str, Any] | None = None
) -> None:
    await channel.call(
        lambda raw, reply: raw.queue_bind(queue, exchange, key, arguments, callback=reply)
    )


async def _bind_exchange(channel: Channel, target: str, source: str, key: str) -> None:
    await channel.call(lambda raw, reply: raw.exchange_bind(target, source, key, callback=reply))
