"""Dead letters: looked at, redriven, discarded.

AMQP has no way to look at a queue but to take everything and to give it back. Whoever does so holds
the exclusive queue `<queue>.dead.lock` meanwhile, so that no two look at once and each sees but a
part. Letters that can't be told apart have handles with a number: it is all one which of them goes.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from pika.exceptions import ChannelClosedByBroker

from blocks.errors import BrokerUnavailableError
from blocks.message import DeadLetter, Message
from blocks.rabbitmq_broker.channel import Channel
from blocks.rabbitmq_broker.errors import is_locked
from blocks.rabbitmq_broker.incoming import Incoming, fingerprint, handle_of, to_dead_letter
from blocks.rabbitmq_broker.link import Link
from blocks.rabbitmq_broker.names import dead_lock, dead_queue
from blocks.rabbitmq_broker.reader import Reader
from blocks.rabbitmq_broker.sender import Sender
from blocks.rabbitmq_broker.topology import Topology

_PAGE: Final = 1_000
_LOOK_AGAIN_SECONDS: Final = 0.02
_LOOKS: Final = 250
#: Longer than anybody looks.
_LEASE_SECONDS: Final = 3_600.0


class DeadLetters:
    """The dead letters of all queues, as one session sees them."""

    def __init__(self, link: Link, sender: Sender, topology: Topology) -> None:
        self._link = link
        self._sender = sender
        self._topology = topology
        self._looking = asyncio.Lock()

    async def all_of(self, queue: str) -> list[DeadLetter]:
        """Read all dead letters, the oldest first, and leave them where they are."""
        async with self._taken(queue) as (_, letters):
            prioritised = self._sender.prioritised
            found = [
                to_dead_letter(queue, one, handle, prioritised=prioritised)
                for handle, one in letters.items()
            ]
        return sorted(found, key=lambda letter: letter.died_at)

    async def settle(self, queue: str, fates: Mapping[str, Message | None]) -> list[str]:
        """Redrive or discard; each is published again and confirmed before it is removed."""
        async with self._taken(queue) as (reader, letters):
            found = [handle for handle in fates if handle in letters]
            # All are encoded before any is touched: one that can't be held leaves the others alone.
            redriven = {
                handle: await self._sender.encode(queue, message, message.id or handle)
                for handle in found
                if (message := fates[handle]) is not None
            }
            errors = await self._sender.send(list(redriven.values()))
            failed = dict(zip(redriven, errors, strict=True))
            done = [handle for handle in found if failed.get(handle) is None]
            await reader.finish(done=[letters[handle].tag for handle in done])
            if problem := next((error for error in errors if error), None):
                raise problem
        return done

    @asynccontextmanager
    async def _taken(self, queue: str) -> AsyncGenerator[tuple[Reader, dict[str, Incoming]]]:
        """Hold all dead letters by their handles, and give back those that are left."""
        await self._topology.ensure(queue)
        async with self._looking, self._locked(queue):
            channel = await self._link.channel()
            name = dead_queue(queue)
            reader = Reader(self._link, channel, name, lease=_LEASE_SECONDS)
            await reader.open()
            try:
                letters: list[Incoming] = []
                total = await self._topology.count(name) or 0
                while (missing := total - len(letters)) > 0:
                    most = min(missing, _PAGE)
                    page = await reader.take(most, self._link.timeout, asyncio.Event())
                    letters += page
                    if not page:
                        break
                yield reader, _by_handle(letters)
            finally:
                if reader.is_open:
                    await self._give_back(name, reader)

    async def _give_back(self, name: str, reader: Reader) -> None:
        """Requeue what is left, and wait until it can be seen again."""
        held = await reader.held()
        await reader.finish(back=[one.tag for one in held])
        await reader.close()
        for _ in range(_LOOKS):
            if (await self._topology.count(name) or 0) >= len(held):
                return
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    @asynccontextmanager
    async def _locked(self, queue: str) -> AsyncGenerator[None]:
        if not self._topology.layout.declare:
            yield
            return
        name = dead_lock(queue)
        channel = await self._lock(queue, name)
        try:
            yield
        finally:
            if channel.is_open:
                with self._link.explained():
                    await channel.call(lambda raw, reply: raw.queue_delete(name, callback=reply))
                    await channel.close()

    async def _lock(self, queue: str, name: str) -> Channel:
        deadline = time.monotonic() + self._link.timeout
        while True:
            channel = await self._link.channel()
            with self._link.explained():
                try:
                    await channel.call(
                        lambda raw, reply: raw.queue_declare(name, exclusive=True, callback=reply)
                    )
                except ChannelClosedByBroker as error:
                    if not is_locked(error):
                        raise
                    if time.monotonic() > deadline:
                        raise BrokerUnavailableError(
                            f"somebody else looks at the dead letters of {queue!r} on "
                            f"{self._link.address}; try again"
                        ) from error
                else:
                    return channel
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)


def _by_handle(letters: Sequence[Incoming]) -> dict[str, Incoming]:
    seen: Counter[str] = Counter()
    found: dict[str, Incoming] = {}
    for letter in letters:
        handle = handle_of(letter) or hashlib.sha256(fingerprint(letter)).hexdigest()[:32]
        seen[handle] += 1
        number = seen[handle]
        found[handle if number == 1 else f"{handle}-{number}"] = letter
    return found
