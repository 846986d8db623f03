"""What a session holds while a hundred thousand messages go through it, in a process of its own.

The variable NOA_TEST_MEMORY_MESSAGES asks for fewer.
"""

import asyncio
import gc
import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final
from uuid import uuid4

from blocks.broker import Broker
from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.providers import drain, publish

MESSAGES: Final = int(os.environ.get("NOA_TEST_MEMORY_MESSAGES", "100000"))
PORTIONS: Final = 10
#: What the last portion may hold more than the second one, when everything has been seen once.
_TOLERANCE: Final = 1.05


async def measure_memory() -> str:
    """Drain a queue in ten portions, and print the resident memory after each."""
    lines = [f"\nMemory (MiB resident) after each of {PORTIONS} portions of {MESSAGES:,} messages"]
    for name, start in CONTENDERS.items():
        with start() as contender:
            measured = await asyncio.to_thread(_in_own_process, contender.broker)
        growth = measured[-1] / measured[1]
        verdict = "flat" if growth <= _TOLERANCE else "GROWS"
        row = " ".join(f"{one:6.1f}" for one in measured)
        lines.append(f"{name:<20} {row}   last / second {growth:.2f}: {verdict}")
    return "\n".join(lines)


def _in_own_process(broker: Broker) -> Sequence[float]:
    processes = multiprocessing.get_context("spawn")
    here, there = processes.Pipe(duplex=False)
    process = processes.Process(target=_measure, args=(broker, there))
    process.start()
    there.close()
    try:
        return here.recv()
    finally:
        process.join()


def _measure(broker: Broker, told: Connection) -> None:
    told.send(asyncio.run(_portions(broker)))


async def _portions(broker: Broker) -> Sequence[float]:
    queue, portion = f"bench-{uuid4().hex}", MESSAGES // PORTIONS
    measured: list[float] = []
    async with broker.connect() as session:
        await session.declare(queue)
        for _ in range(PORTIONS):
            await publish(session, queue, portion)
            await drain(session, queue, portion)
            gc.collect()
            measured.append(_resident())
    return measured


def _resident() -> float:
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) / 1024 for row in rows if row.startswith("VmRSS:"))
