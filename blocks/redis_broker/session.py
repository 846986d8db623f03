"""A live session on Redis streams."""

import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from blocks.errors import BrokerError, BrokerRefusedError, LeaseLostError
from blocks.message import (
    Band,
    Dead,
    DeadLetter,
    Delivery,
    Depth,
    Done,
    Message,
    Outcome,
    Published,
    Release,
    Retry,
    Settled,
    Verdict,
)
from blocks.redis_broker.entry import BATCH_BYTES, Receipt, encode, milliseconds, to_dead_letter
from blocks.redis_broker.errors import from_answer
from blocks.redis_broker.keys import band_number, keys_of, keys_of_topic, number_of
from blocks.redis_broker.limits import Limits
from blocks.redis_broker.publisher import broadcast, publish
from blocks.redis_broker.reader import Member, Reader, Wanted
from blocks.redis_broker.scripts import Script
from blocks.redis_broker.wire import Argument, Wire

_PAGE: Final = 100

_logger = logging.getLogger(__name__)


class RedisSession:
    """See `blocks.broker.Session`; made by `RedisBroker.connect`."""

    def __init__(self, wire: Wire, member: Member, limits: Limits, *, address: str) -> None:
        self._wire = wire
        self._member = member
        self._address = address
        self._reader = Reader(wire, member, limits)

    async def declare(self, queue: str) -> None:
        """Make sure that the queue's streams and its consumer group exist."""
        await self._wire.run(Script.DECLARE, keys_of(queue), (self._member.group,))

    async def subscribe(self, queue: str, topic: str) -> None:
        """Make the queue a consumer group on the topic's stream, and remember it."""
        keys_of_topic(topic)
        await self._wire.run(Script.SUBSCRIBE, keys_of(queue), (queue, topic))

    async def broadcast(self, topic: str, messages: Sequence[Message]) -> Sequence[Published]:
        """Add to the topic's stream, from which each subscriber moves its copy to its own."""
        return await broadcast(self._wire, keys_of_topic(topic), messages)

    async def publish(self, queue: str, messages: Sequence[Message]) -> Sequence[Published]:
        """Publish; Redis has answered for each message that gets an id."""
        return await publish(self._wire, keys_of(queue), messages)

    async def receive(
        self, queue: str, *, max_messages: int, wait: timedelta, lowest: Band = Band.LOW
    ) -> Sequence[Delivery]:
        """Take up to `max_messages`, blocking in Redis for the first one."""
        wanted = Wanted(keys_of(queue), most=max_messages, bands=number_of(lowest))
        return await self._reader.receive(wanted, wait)

    async def settle(self, outcomes: Sequence[Outcome]) -> Sequence[Settled]:
        """Carry out the verdicts, all of a queue in one atomic step."""
        settled: dict[int, Settled] = {}
        for queue, places in _by_queue(outcome.delivery for outcome in outcomes).items():
            results = await self._settle(queue, [outcomes[place] for place in places])
            settled |= zip(places, results, strict=True)
        return [settled[place] for place in range(len(outcomes))]

    async def renew(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Start the leases anew, and return what this session still holds."""
        lost: set[int] = set()
        for queue, places in _by_queue(deliveries).items():
            receipts = [str(_receipt(deliveries[place])) for place in places]
            gone: list[int] = await self._wire.run(
                Script.RENEW, keys_of(queue), (*self._names, *receipts)
            )
            lost |= {places[index] for index in gone}
        for place in lost:
            self._reader.forget(deliveries[place])
        return [one for place, one in enumerate(deliveries) if place not in lost]

    async def depth(self, queue: str) -> Depth:
        """Count the queue; the oldest is the one that has been in its stream for longest."""
        arguments = (self._member.group, milliseconds(self._member.lease), queue)
        counts = await self._wire.run(Script.DEPTH, keys_of(queue), arguments)
        ready, in_flight, delayed, dead, age = counts
        return Depth(
            ready=ready,
            in_flight=in_flight,
            delayed=delayed,
            dead=dead,
            oldest_age=None if age < 0 else timedelta(milliseconds=age),
        )

    async def browse_dead(self, queue: str) -> AsyncIterator[DeadLetter]:
        """Walk over the dead letters, a few at a time."""
        keys, last = keys_of(queue), "0-0"
        while page := await self._wire.run(Script.BROWSE, keys, (last, _PAGE, BATCH_BYTES)):
            for entry, flat in page:
                last = entry.decode()
                fields = dict(zip(flat[::2], flat[1::2], strict=True))
                yield to_dead_letter(queue, last, fields)

    async def settle_dead(self, queue: str, fates: Mapping[str, Message | None]) -> Sequence[str]:
        """Redrive or discard, each in one atomic step."""
        keys, found = keys_of(queue), list[bytes]()
        batch, size = list[Argument](), 0
        # All are encoded before any is touched: one that can't be held leaves the others alone.
        wanted = [(_fate(*fate), fate[1]) for fate in fates.items() if _is_entry_id(fate[0])]
        for arguments, message in wanted:
            batch += arguments
            size += len(message.body) if message else 0
            if size >= BATCH_BYTES:
                found += await self._wire.run(Script.REDRIVE, keys, batch)
                batch, size = [], 0
        found += await self._wire.run(Script.REDRIVE, keys, batch)
        return [handle.decode() for handle in found]

    async def close(self) -> None:
        """Give back what is held, as far as Redis can be reached, and hang up."""
        try:
            await self._reader.leave()
        except BrokerError as error:
            _logger.warning("What was held comes again when its lease ends: %s", error)
        finally:
            await self._wire.close()

    @property
    def _names(self) -> tuple[str, str]:
        return self._member.group, self._member.consumer

    async def _settle(self, queue: str, outcomes: list[Outcome]) -> list[Settled]:
        arguments: list[Argument] = [*self._names]
        for outcome in outcomes:
            name, *details = _details(outcome.verdict)
            arguments += (f"{name} {_receipt(outcome.delivery)}", *details)
        answer: list[Any] = await self._wire.run(Script.SETTLE, keys_of(queue), arguments)
        problems = dict(zip(answer[::2], answer[1::2], strict=True))
        return [
            self._settled(outcome.delivery, problems.get(place))
            for place, outcome in enumerate(outcomes)
        ]

    def _settled(self, delivery: Delivery, problem: int | bytes | None) -> Settled:
        if isinstance(problem, bytes):
            return Settled(delivery=delivery, error=self._told(problem.decode(errors="replace")))
        self._reader.forget(delivery)
        return Settled(delivery=delivery, error=_lost(delivery) if problem else None)

    def _told(self, problem: str) -> BrokerError:
        known = from_answer(problem, self._address)
        return known or BrokerRefusedError(f"{self._address} refused: {problem}")


def _by_queue(deliveries: Iterable[Delivery]) -> dict[str, list[int]]:
    """Places of the deliveries of each queue."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, delivery in enumerate(deliveries):
        places[delivery.queue].append(place)
    return places


def _receipt(delivery: Delivery) -> Receipt:
    receipt = delivery.receipt
    # Nobody holds what another provider delivered: there is no such entry.
    return receipt if isinstance(receipt, Receipt) else Receipt(1, "0-0", 0)


def _details(verdict: Verdict) -> tuple[Argument, ...]:
    match verdict:
        case Done():
            return ("done",)
        case Retry(after):
            return "retry", milliseconds(after)
        case Release(after):
            return "release", milliseconds(after)
        case Dead(reason=reason, error=error, error_type=error_type, run_id=run_id):
            texts = (reason, error, error_type, run_id)
            return "dead", *(text.encode(errors="replace") for text in texts)


def _fate(handle: str, message: Message | None) -> tuple[Argument, ...]:
    if message is None:
        return handle, 0
    # Without an id of its own it goes on as the dead letter's entry; so it is never without one.
    fields = encode(message, message.id or handle)
    return handle, len(fields), band_number(message.priority), milliseconds(message.delay), *fields


def _is_entry_id(handle: str) -> bool:
    milliseconds_, _, sequence = handle.partition("-")
    return milliseconds_.isdecimal() and sequence.isdecimal() and handle.isascii()


def _lost(delivery: Delivery) -> LeaseLostError:
    return LeaseLostError(
        f"message {delivery.id} of queue {delivery.queue!r} is no longer held by this session; "
        "its lease has ended, or it was settled before"
    )
