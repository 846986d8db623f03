"""A million messages waiting: the consumer's memory and Prefect's backlog stay bounded.

First nobody executes anything: the backlog fills up to its limit, and intake stops. Then a worker
is started, and intake follows it. The variables NOA_TEST_MILLION_MESSAGES and
NOA_TEST_MILLION_PROVIDERS (names, with commas) ask for less.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blocks.broker import Session
from blocks.message import Message
from noa_flows.jobs.noop_job import noop
from tests.chaos.brokers import BROKERS
from tests.chaos.site import Site, open_site
from tests.servers.postgres_server import PostgresServer
from tests.servers.prefect_worker import PrefectWorker

MESSAGES: Final = int(os.environ.get("NOA_TEST_MILLION_MESSAGES", "1000000"))
PROVIDERS: Final = tuple(
    os.environ.get("NOA_TEST_MILLION_PROVIDERS", "redis,rabbitmq,kafka").split(",")
)
MAX_WAITING: Final = 200
_BATCH: Final = 500
_LOOKS: Final = 15
_LOOK_EVERY_SECONDS: Final = 4
_AT_ONCE: Final = 4
#: Two consumers at the same time may each see the same room once.
_MOST_WAITING: Final = 2 * MAX_WAITING + 200


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen at one moment."""

    #: MiB resident, of the largest consumer.
    memory: float
    #: Runs that wait in Prefect.
    waiting: int
    #: Runs that there are.
    runs: int
    completed: int


async def measure_million() -> str:
    """Let consumers loose on each provider's million, and look at them for two minutes."""
    sections: list[str] = []
    with PostgresServer() as server:
        for provider in PROVIDERS:
            assert provider in BROKERS, f"{provider}: one of {', '.join(BROKERS)}"
            async with open_site(
                provider=provider,
                job=noop,
                seed=1,
                databases=server.databases,
                settings={"NOA_BRIDGE__MAX_WAITING": str(MAX_WAITING)},
            ) as site:
                sections.append(await _measure(provider, site))
        server.databases.close()
    return "\n".join(sections)


async def _measure(provider: str, site: Site) -> str:
    began = time.monotonic()
    await _publish(site.session, site.queue)
    published = time.monotonic() - began
    depth = await site.session.depth(site.queue)
    with site.consumers:
        idle = [await _look(site) for _ in range(_LOOKS)]
        worker = PrefectWorker(
            site.prefect, "noa", sources=site.folder, kind="warm", limit=_AT_ONCE
        )
        with worker:
            busy = [await _look(site) for _ in range(_LOOKS)]
    head = f"\n{provider}: {depth.ready:,} ready, published in {published:.0f} s; at most "
    return "\n".join(
        [
            f"{head}{MAX_WAITING} runs may wait of each band",
            _row("without a worker", idle),
            _row("with a worker", busy),
            _verdict(idle, busy),
        ]
    )


async def _publish(session: Session, queue: str) -> None:
    for start in range(0, MESSAGES, _BATCH):
        messages = [
            Message(body=b'{"type": "noop", "id": "m%d", "data": {"echo": %d}}' % (number, number))
            for number in range(start, min(start + _BATCH, MESSAGES))
        ]
        outcomes = await session.publish(queue, messages)
        assert all(one.error is None for one in outcomes), outcomes


async def _look(site: Site) -> Look:
    await asyncio.sleep(_LOOK_EVERY_SECONDS)
    states = await site.runs.column("state_type::text")
    return Look(
        memory=max((_resident(pid) for pid in site.consumers.living()), default=0.0),
        waiting=states.count("SCHEDULED") + states.count("PENDING"),
        runs=len(states),
        completed=states.count("COMPLETED"),
    )


def _row(name: str, looks: Sequence[Look]) -> str:
    first, last = looks[0], looks[-1]
    return (
        f"{name:<17} memory {first.memory:.0f} → {last.memory:.0f} MiB "
        f"(most {max(one.memory for one in looks):.0f}), waiting at most "
        f"{max(one.waiting for one in looks)}, taken in {first.runs} → {last.runs}, "
        f"completed {first.completed} → {last.completed}"
    )


def _verdict(idle: Sequence[Look], busy: Sequence[Look]) -> str:
    looks = [*idle, *busy]
    wrong: list[str] = []
    if max(one.waiting for one in looks) > _MOST_WAITING:
        wrong.append("the backlog is NOT bounded")
    if idle[-1].runs != idle[_LOOKS // 2].runs:
        wrong.append("intake does NOT stop")
    if busy[-1].memory > 1.1 * idle[_LOOKS // 2].memory:
        wrong.append("the memory is NOT bounded")
    if busy[-1].runs - busy[0].runs < (busy[-1].completed - busy[0].completed) / 2:
        wrong.append("intake does NOT follow the worker")
    return "; ".join(wrong) or "bounded; intake stops, and follows the worker"


def _resident(pid: int) -> float:
    try:
        rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(row.split()[1]) / 1024 for row in rows if row.startswith("VmRSS:")), 0.0)
