"""Publish and receive rates of each provider, beside the bare client and the hand-over's ceiling.

A provider is fast enough where it reaches 80 % of the bare client, or twenty times what Prefect's
server can take over: more than that no consumer can use.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from statistics import median
from typing import Final
from uuid import uuid4

from blocks.broker import Broker, Session
from blocks.message import Done, Message, Outcome
from tests.benchmarks.bare.client import BATCH, BODY
from tests.benchmarks.contenders import CONTENDERS, Contender
from tests.benchmarks.hand_over import CEILING, measure_ceiling
from tests.benchmarks.table import Table

MESSAGES: Final = 10_000
ROUNDS: Final = 3
_SHARE: Final = 0.8
_CEILINGS: Final = 20


async def measure_providers() -> str:
    """Publish and drain in batches of a hundred, bare and through the contract, in turn."""
    ceiling = await measure_ceiling()
    table = Table(f"Providers, {MESSAGES:,} messages of {len(BODY)} bytes, batches of {BATCH}")
    for name, start in CONTENDERS.items():
        with start() as contender:
            for _ in range(ROUNDS):
                await _bare(table, name, contender)
                await _provider(table, name, contender.broker)
    verdicts = [_verdict(table, name, ceiling) for name in CONTENDERS]
    return "\n".join([str(table), f"{CEILING}: {ceiling:,.0f} runs a second", *verdicts])


def _verdict(table: Table, name: str, ceiling: float) -> str:
    """Say whether a provider is fast enough, and by which of the two measures."""
    what = f"{name}: receive, settle"
    rate, share = median(table.rates[what]), table.ratio(what)
    enough = share >= _SHARE or rate >= _CEILINGS * ceiling
    return (
        f"{name}: {share:.0%} of the bare client, {rate / ceiling:.0f} times the ceiling: "
        f"{'fast enough' if enough else 'TOO SLOW'}"
    )


async def _bare(table: Table, name: str, contender: Contender) -> None:
    client = await asyncio.to_thread(contender.bare)
    for what, work in (("publish", client.publish), ("receive, settle", client.drain)):
        table.add(f"bare {name}: {what}", await _rate(partial(_in_thread, work)))
    await asyncio.to_thread(client.close)


async def _in_thread(work: Callable[[int], None]) -> None:
    await asyncio.to_thread(work, MESSAGES)


async def _provider(table: Table, name: str, broker: Broker) -> None:
    queue = f"bench-{uuid4().hex}"
    async with broker.connect() as session:
        await session.declare(queue)
        for what, work in (("publish", publish), ("receive, settle", drain)):
            rate = await _rate(partial(work, session, queue, MESSAGES))
            table.add(f"{name}: {what}", rate, beside=f"bare {name}: {what}")


async def publish(session: Session, queue: str, messages: int) -> None:
    """Publish so many, a batch at a time."""
    for _ in range(messages // BATCH):
        outcomes = await session.publish(queue, [Message(body=BODY)] * BATCH)
        assert all(one.error is None for one in outcomes), outcomes


async def drain(session: Session, queue: str, messages: int) -> None:
    """Receive and settle so many, a batch at a time."""
    left = messages
    while left > 0:
        taken = await session.receive(queue, max_messages=BATCH, wait=timedelta(seconds=5))
        await session.settle([Outcome(delivery, Done()) for delivery in taken])
        left -= len(taken)


async def _rate(work: Callable[[], Awaitable[None]]) -> float:
    began = time.monotonic()
    await work()
    return MESSAGES / (time.monotonic() - began)
