"""Taking messages: long polls, several at once, and what to do with what nobody waits for."""

import asyncio
import logging
import math
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from blocks.errors import BrokerError, BrokerUnavailableError, LeaseLostError
from blocks.message import DEFAULT_PRIORITY, Delivery, Outcome, Release, utc_now
from blocks.sqs_broker.held import Receipt
from blocks.sqs_broker.leases import Leases
from blocks.sqs_broker.names import Names
from blocks.sqs_broker.payload_store import UNREADABLE, PayloadStore
from blocks.sqs_broker.queues import Queues
from blocks.sqs_broker.record import (
    Record,
    first_received,
    group_id,
    read_record,
    receive_count,
)
from blocks.sqs_broker.sender import BATCH
from blocks.sqs_broker.settler import LONGEST_HIDDEN, Settler
from blocks.sqs_broker.wire import Wire

#: SQS waits in whole seconds, this many at most.
LONGEST_WAIT: Final = 20
_LEAST_WAIT: Final = 0.5
#: Between two looks when less than half a second is left to wait.
_LOOK_AGAIN: Final = 0.1
#: As many calls at once; the other threads are for settling.
_PARALLEL: Final = 10
#: An answer is on its way for no longer than this part of a lease, as far as anybody can tell.
_ON_ITS_WAY: Final = 0.25

_logger = logging.getLogger(__name__)

_Poll = asyncio.Task[list[Delivery]]


class Reader:
    """The receiving half of a session."""

    def __init__(
        self, wire: Wire, queues: Queues, store: PayloadStore, leases: Leases, settler: Settler
    ) -> None:
        self._wire = wire
        self._queues = queues
        self._store = store
        self._leases = leases
        self._settler = settler
        #: The poll of a queue that outlasted its caller: the next one takes over.
        self._orphans: dict[Names, _Poll] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        #: Queues that gave as much as was asked for.
        self._plentiful: set[Names] = set()

    async def receive(self, names: Names, most: int, wait: timedelta) -> list[Delivery]:
        """Take up to `most`; wait for the first one for about `wait`: SQS knows seconds only."""
        deadline = time.monotonic() + wait.total_seconds()
        url = await self._queues.url(names.main)
        taken: list[Delivery] = []
        if names in self._plentiful and most > BATCH:
            taken = await self._burst(names, url, most)
        while not taken:
            left = deadline - time.monotonic()
            taken = await self._wait(names, url, most, _whole_seconds(left))
            left = deadline - time.monotonic()
            if taken or left <= 0:
                break
            await asyncio.sleep(min(left, _LOOK_AGAIN) if left < _LEAST_WAIT else 0)
        if BATCH <= len(taken) < most:
            taken += await self._more(names, url, most, taken)
        self._note_plenty(names, plenty=len(taken) >= min(most, BATCH))
        return taken

    async def close(self) -> None:
        """Wait for what is under way, and give back everything that is held, uncounted."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        held = self._leases.held.deliveries
        await self._give_back(held)

    async def _wait(self, names: Names, url: str, most: int, seconds: int) -> list[Delivery]:
        """One call that waits at SQS, or the one that a cancelled receive has left behind."""
        poll = self._orphans.pop(names, None) or self._start(names, url, min(most, BATCH), seconds)
        try:
            await asyncio.wait({poll})
        except asyncio.CancelledError:
            self._orphan(names, poll)
            raise
        taken = poll.result()
        if len(taken) > most:
            self._later(self._give_back(taken[most:]))
        return taken[:most]

    async def _more(
        self, names: Names, url: str, most: int, taken: list[Delivery]
    ) -> list[Delivery]:
        try:
            return await self._burst(names, url, most - len(taken))
        except BrokerError as error:
            _logger.info("Fewer messages than there may be: %s", error)
            return []
        except asyncio.CancelledError:
            self._later(self._give_back(taken))
            raise

    async def _burst(self, names: Names, url: str, most: int) -> list[Delivery]:
        """Several calls at once, none of which waits."""
        sizes = [BATCH] * (most // BATCH) + ([most % BATCH] if most % BATCH else [])
        polls = [self._start(names, url, size, 0) for size in sizes[:_PARALLEL]]
        try:
            await asyncio.wait(polls)
        except asyncio.CancelledError:
            for poll in polls:
                self._release_when_done(poll)
            raise
        taken = [one for poll in polls if not poll.exception() for one in poll.result()]
        if not taken and (error := polls[0].exception()):
            raise error
        return taken

    def _start(self, names: Names, url: str, most: int, seconds: int) -> _Poll:
        return self._later(self._poll(names, url, most, seconds))

    async def _poll(self, names: Names, url: str, most: int, seconds: int) -> list[Delivery]:
        visibility = self._leases.visibility
        begin = time.monotonic()
        raws = await self._wire.receive(url, most=most, wait=seconds, visibility=visibility)
        # When SQS gave it out lies between the call and its answer: the earliest counts, unless
        # the call has waited for something to come.
        since = max(begin, time.monotonic() - visibility * _ON_ITS_WAY)
        found = await asyncio.gather(*(self._read(names, raw, since + visibility) for raw in raws))
        taken = [one for one in found if isinstance(one, Delivery)]
        failures = [one for one in found if isinstance(one, BrokerUnavailableError)]
        if failures and not taken:
            raise failures[0]
        return taken

    async def _read(
        self, names: Names, raw: Mapping[str, Any], deadline: float
    ) -> Delivery | BrokerUnavailableError | None:
        """Make a delivery; None for what isn't due yet."""
        record, group = read_record(raw), group_id(raw)
        receipt = Receipt(
            names, raw["MessageId"], raw["ReceiptHandle"], record, group, deadline,
            receive_count(raw),
        )  # fmt: skip
        if record.due is not None and (early := (record.due - utc_now()).total_seconds()) > 0:
            await self._postpone(receipt, self._delivery(receipt, raw, b""), early)
            return None
        try:
            body, problem = await self._store.body_of(record)
        except BrokerUnavailableError as error:
            # It comes again when its lease ends.
            return error
        delivery = self._delivery(receipt, raw, body, problem)
        self._leases.held.take(delivery)
        return delivery

    def _delivery(
        self, receipt: Receipt, raw: Mapping[str, Any], body: bytes, problem: str | None = None
    ) -> Delivery:
        record = receipt.record
        early = _early_receives(record, raw) if receipt.names.fifo else 0
        uncounted = early + self._leases.held.uncounted(receipt.message_id)
        headers = {**record.headers, UNREADABLE: problem} if problem else record.headers
        return Delivery(
            queue=receipt.names.queue,
            id=record.id,
            body=body,
            headers=headers,
            key=record.key,
            priority=DEFAULT_PRIORITY,
            deliveries=record.deliveries + max(1, receipt.count - uncounted),
            generation=record.generation,
            published_at=record.published or utc_now(),
            receipt=receipt,
        )

    async def _postpone(self, receipt: Receipt, delivery: Delivery, seconds: float) -> None:
        try:
            await self._settler.postpone(delivery, receipt, math.ceil(seconds))
        except BrokerError as error:
            _logger.info("%s is looked at again when its lease ends: %s", delivery.id, error)

    def _orphan(self, names: Names, poll: _Poll) -> None:
        """Leave a poll to the next caller, or give back what it finds before there is one."""

        def done(_: _Poll) -> None:
            if self._orphans.get(names) is poll:
                del self._orphans[names]
                self._release(poll)

        if poll.done():
            self._release(poll)
            return
        self._orphans[names] = poll
        poll.add_done_callback(done)

    def _release_when_done(self, poll: _Poll) -> None:
        poll.add_done_callback(self._release)

    def _release(self, poll: _Poll) -> None:
        if not poll.cancelled() and not poll.exception() and poll.result():
            self._later(self._give_back(poll.result()))

    async def _give_back(self, deliveries: Iterable[Delivery]) -> None:
        """Release; what can't be released comes again when its lease ends."""
        try:
            settled = await self._settler.settle([Outcome(one, Release()) for one in deliveries])
            errors = [one.error for one in settled if one.error]
        except BrokerError as error:
            errors = [error]
        # What was lost has come again already.
        for error in [one for one in errors if not isinstance(one, LeaseLostError)][:1]:
            _logger.warning("What was held comes again when its lease ends: %s", error)

    def _later(self, work: Any) -> asyncio.Task[Any]:
        """Begin something that goes on when whoever began it is cancelled."""
        task: asyncio.Task[Any] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _note_plenty(self, names: Names, *, plenty: bool) -> None:
        if plenty:
            self._plentiful.add(names)
        else:
            self._plentiful.discard(names)


def _whole_seconds(left: float) -> int:
    if left < _LEAST_WAIT:
        return 0
    return min(LONGEST_WAIT, max(1, round(left)))


def _early_receives(record: Record, raw: Mapping[str, Any]) -> int:
    """How often a message was received before it was due, only to be hidden until then."""
    if record.due is None:
        return 0
    ahead = (record.due - first_received(raw)).total_seconds()
    return math.ceil(ahead / LONGEST_HIDDEN) if ahead > 0 else 0
