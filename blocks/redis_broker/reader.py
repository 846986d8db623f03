"""Taking messages: what ended leases left behind, what is due, what is ready, and waiting."""

import asyncio
import logging
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import islice
from typing import Any, Final

from blocks.message import Delivery
from blocks.redis_broker.entry import BATCH_BYTES, Receipt, milliseconds, to_delivery
from blocks.redis_broker.errors import NoGroupError
from blocks.redis_broker.keys import Keys
from blocks.redis_broker.limits import Limits
from blocks.redis_broker.scripts import Script
from blocks.redis_broker.wire import Argument, Fields, Wire

_logger = logging.getLogger(__name__)

# What was released, or published with a short delay, doesn't wake a blocked reader: it looks again.
_LOOK_AGAIN: Final = 0.5
# Everybody's leases are looked at no more often than this.
_LEASES_EVERY: Final = 0.1
# A call whose answer was lost blocks in Redis for `_LOOK_AGAIN`, and may reach it late: until then
# it can still take something.
_STRAYS_COME_FOR: Final = 2 * _LOOK_AGAIN
# A consumer that holds nothing is forgotten after so many leases of silence.
_SILENT_LEASES: Final = 2


@dataclass(frozen=True, slots=True)
class Member:
    """A session as a member of the consumer group."""

    group: str
    #: Its name is unique, and ends with its lease, as the scripts want it.
    consumer: str
    lease: timedelta


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a call asks for: at most so many, from the first so many bands."""

    keys: Keys
    most: int
    bands: int


@dataclass(frozen=True, slots=True)
class _Look:
    """What was found, and how to wait where nothing was."""

    taken: list[Delivery]
    #: In how many seconds the next delayed message is due, or the rate limit allows the next one;
    #: None where nothing is known to come.
    due_in: float | None
    #: Stream → the entry id after which there is news; empty where a blocking read may take it.
    watch: dict[bytes, bytes]


class Reader:
    """The receiving half of a session; it knows what the session holds."""

    def __init__(self, wire: Wire, member: Member, limits: Limits) -> None:
        self._wire = wire
        self._member = member
        self._limits = limits
        self._held: dict[tuple[str, Receipt], None] = {}
        #: Queues where something may have been taken without an answer that tells it, and until
        #: when more may be.
        self._unsure: dict[str, float] = {}
        self._leases_seen: dict[str, float] = {}
        self._swept: dict[Keys, float] = {}

    async def receive(self, wanted: Wanted, wait: timedelta) -> list[Delivery]:
        """Take what is wanted; block for the first one, for at most `wait`."""
        keys = wanted.keys
        deadline = time.monotonic() + wait.total_seconds()
        await self._give_back_strays(keys)
        await self._sweep(keys)
        try:
            taken = await self._take_or_wait(wanted, deadline)
        except BaseException:
            # A call that is cancelled never returns what it took, no more than one that fails.
            self._unsure[keys.queue] = time.monotonic() + _STRAYS_COME_FOR
            raise
        self._held |= dict.fromkeys((keys.queue, _receipt(one)) for one in taken)
        return taken

    def forget(self, delivery: Delivery) -> None:
        """Note that a delivery is no longer held."""
        if isinstance(delivery.receipt, Receipt):
            self._held.pop((delivery.queue, delivery.receipt), None)

    async def leave(self) -> None:
        """Give back everything that is held, uncounted, and leave the groups."""
        self._held.clear()
        for keys in self._swept:
            self._unsure[keys.queue] = time.monotonic()
            await self._give_back_strays(keys)
            await self._run(Script.SWEEP, keys, self._sweep_arguments(self._member.consumer))

    async def _take_or_wait(self, wanted: Wanted, deadline: float) -> list[Delivery]:
        while True:
            look = await self._look(wanted)
            left = deadline - time.monotonic()
            if look.taken or left <= 0:
                return look.taken
            seconds = min(left, look.due_in or _LOOK_AGAIN, _LOOK_AGAIN)
            if look.watch:
                await self._wire.watch(look.watch, wait=seconds)
            elif self._limits.interval_us:
                await asyncio.sleep(_with_jitter(seconds))
            elif woken := await self._block(wanted, seconds):
                return await self._fill(wanted, woken)

    async def _look(self, wanted: Wanted) -> _Look:
        """Take what there is, without waiting."""
        member, keys = self._member, wanted.keys
        lease, everybody = milliseconds(member.lease), int(self._is_time_for_leases(keys.queue))
        names = (member.group, member.consumer)
        most = (wanted.most, BATCH_BYTES, wanted.bands)
        rate = (self._limits.interval_us, self._limits.burst)
        arguments = (*names, lease, *most, everybody, keys.queue, *rate)
        due_in, *packed, watch = await self._run(Script.RECEIVE, keys, arguments)
        return _Look(
            taken=[to_delivery(keys.queue, *entry) for entry in _unpack(*packed)],
            due_in=None if due_in < 0 else due_in / 1_000,
            watch=dict(zip(watch[::2], watch[1::2], strict=True)),
        )

    async def _block(self, wanted: Wanted, seconds: float) -> list[Delivery]:
        """Wait for one message; from each band that got some at that moment, one comes."""
        keys, group, consumer = wanted.keys, self._member.group, self._member.consumer
        streams = keys.bands[: wanted.bands]
        try:
            entries = await self._wire.read_new(
                streams, group=group, consumer=consumer, wait=seconds
            )
        except NoGroupError:
            # The next look makes the group again.
            return []
        return [
            to_delivery(keys.queue, Receipt(band, entry.decode(), 1), fields)
            for band, entry, fields in sorted(entries, key=lambda one: one[0])
        ]

    async def _fill(self, wanted: Wanted, woken: list[Delivery]) -> list[Delivery]:
        """Take what came together with the message that ended the waiting; give back a surplus."""
        missing = wanted.most - len(woken)
        if missing <= 0:
            await self._release(wanted.keys, [_receipt(one) for one in woken[wanted.most :]])
            return woken[: wanted.most]
        look = await self._look(replace(wanted, most=missing))
        return sorted(woken + look.taken, key=lambda one: _receipt(one).band)

    async def _give_back_strays(self, keys: Keys) -> None:
        """Release what was taken for this session by a call whose answer was lost."""
        until = self._unsure.get(keys.queue)
        if until is None:
            return
        over = time.monotonic() >= until
        # The first answer says that Redis has read what was sent to it before, the second that it
        # has noticed which connections were closed after that, and serves their calls no more.
        await self._wire.ping()
        await self._wire.ping()
        member = (self._member.group, self._member.consumer)
        rows = await self._run(Script.UNSETTLED, keys, member)
        pending = {
            (keys.queue, Receipt(band, entry.decode(), count)) for band, entry, count in rows
        }
        for gone in [one for one in self._held if one[0] == keys.queue and one not in pending]:
            del self._held[gone]
        await self._release(keys, [stray for _, stray in pending - self._held.keys()])
        # A call that was lost meanwhile has set another time, and a session that ends may have been
        # quicker.
        if over and self._unsure.get(keys.queue) == until:
            del self._unsure[keys.queue]

    async def _release(self, keys: Keys, receipts: Iterable[Receipt]) -> None:
        verdicts = [part for receipt in receipts for part in (f"release {receipt}", 0)]
        if verdicts:
            names = (self._member.group, self._member.consumer)
            await self._run(Script.SETTLE, keys, (*names, *verdicts))

    async def _sweep(self, keys: Keys) -> None:
        now = time.monotonic()
        every = self._member.lease.total_seconds()
        if now - self._swept.get(keys, float("-inf")) < every:
            return
        self._swept[keys] = now
        if dropped := await self._run(Script.SWEEP, keys, self._sweep_arguments("")):
            _logger.warning(
                "Dropped the %d oldest dead letters of %r: the block's fields "
                "`dead_letters_max_age_days` and `dead_letters_max_bytes` allow no more",
                *(dropped, keys.queue),
            )

    def _sweep_arguments(self, leaving: str) -> tuple[Argument, ...]:
        limits, silence = self._limits, self._member.lease * _SILENT_LEASES
        max_age = milliseconds(limits.dead_letters_max_age or timedelta(0))
        bounds = (max_age, limits.dead_letters_max_bytes or 0)
        return self._member.group, milliseconds(silence), leaving, *bounds

    def _is_time_for_leases(self, queue: str) -> bool:
        now = time.monotonic()
        if now - self._leases_seen.get(queue, float("-inf")) < _LEASES_EVERY:
            return False
        self._leases_seen[queue] = now
        return True

    async def _run(self, script: Script, keys: Keys, arguments: Iterable[Argument]) -> Any:
        """Run a script; where the group is missing, make it first."""
        arguments = tuple(arguments)
        try:
            return await self._wire.run(script, keys, arguments)
        except NoGroupError:
            await self._wire.run(Script.DECLARE, keys, (self._member.group,))
            return await self._wire.run(script, keys, arguments)


def _unpack(shape: bytes, content: bytes) -> Iterator[tuple[Receipt, Fields]]:
    """Cut the content as `receive.lua` says."""
    numbers = map(int, shape.split())
    at = 0
    for band in numbers:
        count = next(numbers)
        parts: list[bytes] = []
        for length in islice(numbers, next(numbers)):
            parts.append(content[at : at + length])
            at += length
        fields = dict(zip(parts[1::2], parts[2::2], strict=True))
        yield Receipt(band, parts[0].decode(), count), fields


def _with_jitter(seconds: float) -> float:
    """A time to sleep, such that of several sleepers it isn't always the same one who is first."""
    return seconds + random.uniform(0, min(seconds / 4, 0.02))  # noqa: S311 - nothing is secret


def _receipt(delivery: Delivery) -> Receipt:
    assert isinstance(delivery.receipt, Receipt)
    return delivery.receipt
