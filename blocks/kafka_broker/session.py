"""A live session on Kafka: the event loop on one side, the driver's blocking calls on the other."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

from blocks.errors import BrokerUnavailableError, LeaseLostError, UnsupportedError
from blocks.kafka_broker.consumption import Consumption
from blocks.kafka_broker.dead_letters import DeadLetters
from blocks.kafka_broker.depth import Counter
from blocks.kafka_broker.names import (
    QueueTopics,
    check_topic,
    is_internal,
    is_pattern,
    pattern_of,
    topics_of,
)
from blocks.kafka_broker.publisher import Publisher, broadcast_record_of, record_of
from blocks.kafka_broker.reader import Reader
from blocks.kafka_broker.topics import Topics
from blocks.kafka_broker.wire import Wire
from blocks.message import (
    Band,
    DeadLetter,
    Delivery,
    Depth,
    Message,
    Outcome,
    Published,
    Settled,
)

T = TypeVar("T")

_BEGINNING_TAKES: Final = 15.0
_LOOK_AGAIN: Final = 0.05


class KafkaSession:
    """See `blocks.broker.Session`; made by `KafkaBroker.connect`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._address = wire.endpoint.address
        self._topics = Topics(wire)
        self._reader = Reader(wire)
        self._publisher = Publisher(wire)
        #: One thread, as neither administration nor reading is a matter of many.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-session")
        self._consumptions: dict[str, Consumption] = {}
        self._letters: dict[str, DeadLetters] = {}

    async def declare(self, queue: str) -> None:
        """Make the queue's topics, or check that they are there; see `KafkaBroker`."""
        await self._declared(queue)

    async def subscribe(self, queue: str, topic: str) -> None:
        """Read a topic in the queue's own group, from now on."""
        names = await self._declared(queue)
        consumption = self._consumption(names)
        if is_pattern(topic):
            pattern = pattern_of(topic)
            consumption.membership.subscribe_to_all(pattern)

            def matching() -> list[str]:
                return [
                    one
                    for one in self._topics.all_names()
                    if pattern.fullmatch(one) and not is_internal(one) and one != queue
                ]

            await self._begin(consumption, await self._run(matching))
        else:
            check_topic(topic)
            await self._run(self._topics.ensure, topic)
            consumption.membership.subscribe(topic)
            await self._begin(consumption, [topic])

    async def broadcast(self, topic: str, messages: Sequence[Message]) -> Sequence[Published]:
        """Publish to a topic, which keeps it for its retention, with subscribers and without."""
        check_topic(topic)
        await self._check()
        await self._run(self._topics.ensure, topic)
        return await self._publisher.publish(
            messages, lambda message, id_: broadcast_record_of(message, topic, id_)
        )

    async def publish(self, queue: str, messages: Sequence[Message]) -> Sequence[Published]:
        """Publish; all replicas in sync have each message that gets an id."""
        names = await self._declared(queue)
        return await self._publisher.publish(
            messages, lambda message, id_: record_of(message, names, id_)
        )

    async def receive(
        self, queue: str, *, max_messages: int, wait: timedelta, lowest: Band = Band.LOW
    ) -> Sequence[Delivery]:
        """Take up to `max_messages`; the first call joins the queue's consumer group."""
        deadline = time.monotonic() + wait.total_seconds()
        if lowest is not Band.LOW:
            raise UnsupportedError(f"{self._address} has no priorities: receive all or nothing")
        consumption = self._consumption(await self._declared(queue))
        return await consumption.receive(max_messages, deadline, self._check)

    async def settle(self, outcomes: Sequence[Outcome]) -> Sequence[Settled]:
        """Carry out the verdicts, those of a queue in one step."""
        settled: dict[int, Settled] = {}
        for queue in {one.delivery.queue for one in outcomes}:
            places = [at for at, one in enumerate(outcomes) if one.delivery.queue == queue]
            chosen = [outcomes[at] for at in places]
            if consumption := self._consumptions.get(queue):
                results = await consumption.call(consumption.member.settle, chosen)
            else:
                results = [
                    Settled(delivery=one.delivery, error=LeaseLostError(f"{queue}: not held here"))
                    for one in chosen
                ]
            settled |= zip(places, results, strict=True)
        return [settled[at] for at in range(len(outcomes))]

    async def renew(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Begin the leases anew, and return what this session still holds."""
        kept: set[int] = set()
        for queue in {one.queue for one in deliveries}:
            if consumption := self._consumptions.get(queue):
                own = [one for one in deliveries if one.queue == queue]
                kept |= {id(one) for one in await consumption.call(consumption.member.renew, own)}
        return [one for one in deliveries if id(one) in kept]

    async def depth(self, queue: str) -> Depth:
        """Count the queue; what others hold counts as ready."""
        names = await self._declared(queue)
        consumption = self._consumptions.get(queue)
        held = len(consumption.member.holdings) if consumption else 0
        counter = Counter(self._topics, self._reader, names, self._letters_of(names))
        return await self._run(counter.count, held)

    async def browse_dead(self, queue: str) -> AsyncIterator[DeadLetter]:
        """Walk over the dead letters, a page at a time."""
        names = await self._declared(queue)
        # A reader of its own, since other calls go on meanwhile.
        reader = Reader(self._wire)
        pages = DeadLetters(self._wire, self._topics, reader, names).pages()
        try:
            while page := await asyncio.to_thread(next, pages, None):
                for letter in page:
                    yield letter
        finally:
            await asyncio.to_thread(reader.close)

    async def settle_dead(self, queue: str, fates: Mapping[str, Message | None]) -> Sequence[str]:
        """Redrive or discard, all of it in one transaction."""
        names = await self._declared(queue)
        return await self._run(self._letters_of(names).settle, fates)

    async def close(self) -> None:
        """Give back what is held, as far as Kafka can be reached, and hang up."""
        try:
            for consumption in self._consumptions.values():
                await consumption.close()
        finally:
            await asyncio.to_thread(self._hang_up)

    async def _declared(self, queue: str) -> QueueTopics:
        names = topics_of(queue)
        await self._check()
        await self._run(self._topics.declare, names)
        return names

    async def _check(self) -> None:
        if self._wire.doubtful:
            await asyncio.to_thread(self._wire.check)

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(function, *arguments))

    async def _begin(self, consumption: Consumption, topics: Sequence[str]) -> None:
        """See to it that the group has a position in each partition before this returns."""
        queue = consumption.member.topics.queue
        left = await self._run(self._topics.begin_here, queue, topics)
        if not left:
            return
        # The group has members, and only a member may commit now: be one.
        consumption.membership.begin_at |= left
        consumption.membership.asks()
        try:
            async with asyncio.timeout(_BEGINNING_TAKES):
                while left.keys() - (await self._run(self._topics.committed, queue)).keys():
                    await asyncio.sleep(_LOOK_AGAIN)
        except TimeoutError:
            raise BrokerUnavailableError(
                f"{self._address}: the group of {queue!r} took none of {sorted(left)} within "
                f"{_BEGINNING_TAKES:g} s; try again"
            ) from None
        finally:
            consumption.membership.asks_no_more()

    def _consumption(self, names: QueueTopics) -> Consumption:
        if names.queue not in self._consumptions:
            self._consumptions[names.queue] = Consumption(self._wire, names)
        return self._consumptions[names.queue]

    def _letters_of(self, names: QueueTopics) -> DeadLetters:
        if names.queue not in self._letters:
            letters = DeadLetters(self._wire, self._topics, self._reader, names)
            self._letters[names.queue] = letters
        return self._letters[names.queue]

    def _hang_up(self) -> None:
        self._publisher.close()
        self._thread.shutdown()
        self._reader.close()
