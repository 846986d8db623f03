"""A consumer in a process of its own, to be killed while it holds messages."""

import asyncio
import multiprocessing
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection

from blocks.broker import Broker
from tests.conformance.moves import take

# The server imports Prefect once; each holder is then forked off it in milliseconds.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])


@asynccontextmanager
async def holder(broker: Broker, queue: str, count: int) -> AsyncGenerator[list[str]]:
    """Let another process take `count` messages, yield their ids, then kill it with SIGKILL.

    The other process never renews nor settles; it is dead when the block is left.
    """
    here, there = _processes.Pipe()
    process = _processes.Process(target=_hold, args=(broker, queue, count, there), daemon=True)
    process.start()
    try:
        answered = await asyncio.to_thread(here.poll, 60)
        assert answered, "the holder took no messages within a minute"
        yield here.recv()
    finally:
        process.kill()
        await asyncio.to_thread(process.join, 10)
        here.close()
        there.close()
        process.close()


def _hold(broker: Broker, queue: str, count: int, parent: Connection) -> None:
    asyncio.run(_take_and_hold(broker, queue, count, parent))


async def _take_and_hold(broker: Broker, queue: str, count: int, parent: Connection) -> None:
    async with broker.connect() as session:
        parent.send([delivery.id for delivery in await take(session, queue, count)])
        await asyncio.Event().wait()
