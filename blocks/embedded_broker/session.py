"""The embedded broker's session: the event loop on one side, SQLite in its own thread."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

from blocks.embedded_broker.database import open_database
from blocks.embedded_broker.store import EmbeddedStore, Watch, new_lease
from blocks.embedded_broker.thread import DatabaseThread
from blocks.errors import BrokerUnavailableError
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


class EmbeddedSession:
    """See `blocks.broker.Session`.

    All SQLite work of a session is done in one thread, so that the event loop never waits for a
    disk. A waiting `receive` steps aside for other calls.
    """

    def __init__(self, path: Path, *, address: str, provider: str, lease: timedelta) -> None:
        self._path = path
        self._address = address
        self._provider = provider
        self._lease = lease
        self._thread = DatabaseThread(address)
        self._store: EmbeddedStore | None = None

    async def open(self) -> None:
        """Open the file; see `open_database` for what can go wrong."""
        self._store = EmbeddedStore(
            await self._thread.run(open_database, self._path, self._address), self._lease
        )

    async def close(self) -> None:
        """Give back what is held, without counting it, and end the thread."""
        store, self._store = self._store, None
        try:
            if store is not None:
                await self._thread.run(store.close)
        finally:
            self._thread.stop()

    async def declare(self, queue: str) -> None:
        """See `Session.declare`; publishing and receiving do it too."""
        await self._thread.run(self._open_store.declare, queue)

    async def subscribe(self, queue: str, topic: str) -> None:
        """See `Session.subscribe`; patterns are AMQP's, so `#` stands for no word, too."""
        await self._thread.run(self._open_store.subscribe, queue, topic)

    async def broadcast(self, topic: str, messages: Sequence[Message]) -> Sequence[Published]:
        """See `Session.broadcast`; all copies of one call are one transaction."""
        return await self._thread.run(self._open_store.broadcast, topic, messages)

    async def publish(self, queue: str, messages: Sequence[Message]) -> Sequence[Published]:
        """See `Session.publish`; one call is one transaction, so publish many at once."""
        return await self._thread.run(self._open_store.publish, queue, messages)

    async def receive(
        self, queue: str, *, max_messages: int, wait: timedelta, lowest: Band = Band.LOW
    ) -> Sequence[Delivery]:
        """See `Session.receive`; what a cancelled call had taken is given back."""
        deadline = time.monotonic() + wait.total_seconds()
        while True:
            taken, watch = await self._take(queue, max_messages, lowest)
            if taken or time.monotonic() >= deadline:
                break
            await self._wait_for_change(watch, deadline)
        if not taken:
            await self._thread.run(self._open_store.shrink)
        return taken

    async def settle(self, outcomes: Sequence[Outcome]) -> Sequence[Settled]:
        """See `Session.settle`; one call is one transaction, so settle many at once."""
        return await self._thread.run(self._open_store.settle, outcomes)

    async def renew(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """See `Session.renew`."""
        return await self._thread.run(self._open_store.renew, deliveries)

    async def depth(self, queue: str) -> Depth:
        """See `Session.depth`."""
        return await self._thread.run(self._open_store.depth, queue)

    async def browse_dead(self, queue: str) -> AsyncIterator[DeadLetter]:
        """See `Session.browse_dead`; read page by page, so that any number fits in memory."""
        after = 0
        while page := await self._thread.run(
            self._open_store.browse_dead, self._provider, queue, after
        ):
            for letter in page:
                yield letter
            after = int(page[-1].handle)

    async def settle_dead(self, queue: str, fates: Mapping[str, Message | None]) -> Sequence[str]:
        """See `Session.settle_dead`; a message that can't be held raises, and nothing is done."""
        return await self._thread.run(self._open_store.settle_dead, queue, fates)

    @property
    def _open_store(self) -> EmbeddedStore:
        if self._store is None:
            raise BrokerUnavailableError(
                f"this session with {self._address} is closed; open another with `connect()`"
            )
        return self._store

    async def _take(
        self, queue: str, max_messages: int, lowest: Band
    ) -> tuple[Sequence[Delivery], Watch]:
        store, lease = self._open_store, new_lease()
        try:
            return await self._thread.run(store.take, queue, max_messages, lease, lowest)
        except asyncio.CancelledError:
            # The thread may be taking messages at this moment: it gives them back afterwards.
            self._thread.submit(store.give_back, lease)
            raise

    async def _wait_for_change(self, watch: Watch, deadline: float) -> None:
        has_changed = partial(self._open_store.is_stirred, watch)
        await self._thread.wait_until(has_changed, deadline)
