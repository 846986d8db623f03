"""Dead letters: a queue that can't be looked at without receiving from it, and then giving back."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, Final

from blocks.errors import BrokerError
from blocks.message import DEFAULT_PRIORITY, DeadLetter, Message, utc_now
from blocks.sqs_broker.handles import change_visibility, delete
from blocks.sqs_broker.names import Names
from blocks.sqs_broker.payload_store import PayloadStore
from blocks.sqs_broker.publisher import Publisher
from blocks.sqs_broker.queues import Queues
from blocks.sqs_broker.record import Record, dead_attributes, moment, read_record
from blocks.sqs_broker.sender import BATCH, Parcel, send
from blocks.sqs_broker.wire import Wire

#: How long a letter is hidden from others while somebody looks, in seconds.
_LOOKING: Final = 120
#: Letters are sorted by age within so many, or so many bytes.
_WINDOW: Final = 1_000
_WINDOW_BYTES: Final = 16 * 1024 * 1024
#: Why a letter is dead that SQS moved there itself: `noa_flows` has the same word.
_BY_SQS: Final = "too-many-deliveries"


class DeadLetters:
    """The dead letters of a session's queues."""

    def __init__(
        self,
        wire: Wire,
        queues: Queues,
        store: PayloadStore,
        publisher: Publisher,
        *,
        limit: int,
        max_receive_count: int,
    ) -> None:
        self._wire = wire
        self._queues = queues
        self._store = store
        self._publisher = publisher
        self._limit = limit
        self._max_receive_count = max_receive_count
        #: Receipt handles of the walks that aren't at their end, and their queue's URL.
        self._walks: list[tuple[str, list[str]]] = []

    async def browse(self, names: Names) -> AsyncIterator[DeadLetter]:
        """Walk over all, hidden from others for two minutes at most; oldest first, as far as seen.

        Two who look at the same time see a part each.
        """
        url = await self._queues.url(names.dead)
        handles = self._walk(url)
        seen: set[str] = set()
        try:
            async for window in self._windows(url, handles, seen):
                letters = await asyncio.gather(*(self._letter(names, raw) for raw in window))
                for letter in sorted(letters, key=lambda one: one.died_at):
                    yield letter
        finally:
            await self._show_again(url, handles)

    async def settle(self, names: Names, fates: Mapping[str, Message | None]) -> list[str]:
        """Redrive or discard; a letter that is sent again is deleted right after that.

        Raises:
            BrokerError: A message can't be held; then nothing has been done.
        """
        parcels = {
            handle: await self._parcel(names, handle, message)
            for handle, message in fates.items()
            if message is not None
        }
        url = await self._queues.url(names.dead)
        handles = self._walk(url)
        found: dict[str, Mapping[str, Any]] = {}
        try:
            async for window in self._windows(url, handles, set()):
                found |= {raw["MessageId"]: raw for raw in window if raw["MessageId"] in fates}
                if len(found) == len(fates):
                    break
            return await self._dispose(names, url, found, parcels)
        finally:
            await self._show_again(url, handles)

    async def count(self, names: Names) -> int:
        """How many there are."""
        attributes = await self._queues.attributes(names.dead)
        return sum(int(attributes.get(name, 0)) for name in COUNTS)

    async def close(self) -> None:
        """Give back what a walk that was left early still hides."""
        for url, handles in list(self._walks):
            await self._show_again(url, handles)

    def _walk(self, url: str) -> list[str]:
        handles: list[str] = []
        self._walks.append((url, handles))
        return handles

    async def _dispose(
        self,
        names: Names,
        url: str,
        found: Mapping[str, Mapping[str, Any]],
        parcels: Mapping[str, Parcel],
    ) -> list[str]:
        main = await self._queues.url(names.main)
        again = [handle for handle in found if handle in parcels]
        sent = await send(self._wire, main, [parcels[one] for one in again], limit=self._limit)
        failed = {handle: error for handle, error in zip(again, sent, strict=True) if error}
        gone = [handle for handle in found if handle not in failed]
        receipts = [str(found[handle]["ReceiptHandle"]) for handle in gone]
        deleted = await delete(self._wire, url, receipts)
        failed |= {handle: error for handle, error in zip(gone, deleted, strict=True) if error}
        done = [handle for handle in found if handle not in failed]
        await asyncio.gather(*(self._store.remove(read_record(found[one])) for one in done))
        if failed and not done:
            raise next(iter(failed.values()))
        return done

    async def _parcel(self, names: Names, handle: str, message: Message) -> Parcel:
        # Without an id of its own it goes on as the dead letter; so it is never without one.
        kept = message if message.id else replace(message, id=handle)
        parcel = await self._publisher.parcel(kept, names.main)
        # The letter was published before, under a token that its queue may still remember.
        return replace(parcel, token=f"redrive-{handle}") if names.fifo else parcel

    async def _windows(
        self, url: str, handles: list[str], seen: set[str]
    ) -> AsyncIterator[list[Mapping[str, Any]]]:
        window: list[Mapping[str, Any]] = []
        size = 0
        # A look that doesn't wait may miss some: only an empty one that waited is the end.
        wait = 0
        while True:
            raws = await self._wire.receive(url, most=BATCH, wait=wait, visibility=_LOOKING)
            handles += (str(raw["ReceiptHandle"]) for raw in raws)
            fresh = [raw for raw in raws if raw["MessageId"] not in seen]
            seen |= {raw["MessageId"] for raw in fresh}
            window += fresh
            size += sum(len(raw.get("Body", "")) for raw in fresh)
            if (wait and not raws) or len(window) >= _WINDOW or size >= _WINDOW_BYTES:
                yield window
                window, size = [], 0
            if wait and not raws:
                return
            wait = 0 if raws else 1

    async def _show_again(self, url: str, handles: list[str]) -> None:
        """Give back what was looked at; what can't be given back is there in two minutes."""
        try:
            await change_visibility(self._wire, url, [(handle, 0) for handle in handles])
        except BrokerError:
            return
        finally:
            self._walks = [walk for walk in self._walks if walk[1] is not handles]

    async def _letter(self, names: Names, raw: Mapping[str, Any]) -> DeadLetter:
        record, dead = read_record(raw), dead_attributes(raw)
        body, _ = await self._store.body_of(record)
        if "at" not in dead:
            dead = self._moved_by_sqs(record)
        return DeadLetter(
            handle=str(raw["MessageId"]),
            id=record.id,
            provider="sqs-broker",
            queue=names.queue,
            body=body,
            headers=record.headers,
            key=record.key,
            priority=DEFAULT_PRIORITY,
            deliveries=record.deliveries + int(dead.get("received", 0)),
            # Reading took it for one that AWS has brought back.
            generation=record.generation - ("received" not in dead),
            published_at=record.published or utc_now(),
            died_at=moment(dead.get("at")) or record.published or utc_now(),
            reason=dead.get("reason", ""),
            error=dead.get("error", ""),
            error_type=dead.get("error-type", ""),
            run_id=dead.get("run-id", ""),
        )

    def _moved_by_sqs(self, record: Record) -> dict[str, str]:
        count = self._max_receive_count
        return {
            "reason": _BY_SQS,
            "error": f"SQS gave it out {record.deliveries + count} times, and nobody settled it; "
            "then it moved it here (redrive policy)",
            "received": str(count),
        }


#: The attributes of a queue that count messages: ready, in flight, delayed.
COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)
