"""Executed runs under fire: each effect stands in a ledger, and a repeat is explained."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.attack import Attack, Interruption
from tests.chaos.figures import Figures
from tests.chaos.plan import Blow, Plan
from tests.chaos.publisher import Publisher
from tests.chaos.site import Site, open_site
from tests.jobs.ledger_job import ledger
from tests.project import PROJECT
from tests.servers.postgres_databases import PostgresDatabases
from tests.servers.prefect_worker import PrefectWorker

_JOBS = {"NOA_JOBS": '{"ledger": "tests.jobs.ledger_job:ledger"}', "PYTHONPATH": str(PROJECT)}
#: Few runs wait at a time, so that the hand-over lasts as long as the execution.
_MAX_WAITING = 4
_PACE = {"NOA_BRIDGE__BATCH_SIZE": "3", "NOA_BRIDGE__MAX_WAITING": str(_MAX_WAITING)}
_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the ledger: one execution of the job."""

    delivery: str
    run: str
    entry: int
    attempt: int
    pid: int
    at: float


def ledger_plan(*, messages: int, seed: int) -> Plan:
    """Faults on the consumer and the broker alone, the more the more messages there are."""
    blows = {Blow.KILL_CONSUMER: messages // 5, Blow.RESTART_BROKER: 2, Blow.STALL_BROKER: 2}
    return Plan(messages=messages, seed=seed, blows=blows, ahead=_MAX_WAITING + _AT_ONCE)


async def ledger_under_fire(
    plan: Plan, databases: PostgresDatabases
) -> tuple[Figures, Sequence[str]]:
    """Execute all messages on a warm worker while the plan is carried out.

    Returns:
        The figures, and each repeat with the interruption that explains it.
    """
    began = time.monotonic()
    async with open_site(
        provider="redis",
        job=ledger,
        seed=plan.seed,
        databases=databases,
        settings={**_JOBS, **_PACE},
    ) as site:
        book, attack = site.folder / "ledger", Attack(site, Random(plan.seed))
        events = [_event(number, book) for number in range(plan.messages)]
        await Publisher(site.session, site.queue).publish(events)
        worker = PrefectWorker(
            site.prefect,
            "noa",
            sources=site.folder,
            kind="warm",
            limit=_AT_ONCE,
            settings=_JOBS,
        )
        with worker, site.consumers:
            for progress, blow in plan.schedule():
                await _progress(site, book, progress)
                await attack.strike(blow)
            await _all_completed(site, plan.messages)
        entries = read_ledger(book)
        labelled = await site.runs.column("labels ->> 'noa.delivery-id'")
    repeats = explain_repeats(entries, attack.interruptions)
    counted: dict[str, float] = {
        "messages": plan.messages,
        "executions": len(entries),
        "distinct delivery ids": len({one.delivery for one in entries} & set(labelled)),
        "messages with an effect": len({one.entry for one in entries}),
        "repeats": len(repeats),
        **{blow.value: attack.dealt[blow] for blow in plan.blows},
        "messages delivered again": len(site.journal.redelivered),
        "seconds": round(time.monotonic() - began),
    }
    expected = {
        "executions": plan.messages,
        "distinct delivery ids": plan.messages,
        "messages with an effect": plan.messages,
        **{blow.value: times for blow, times in plan.blows.items()},
    }
    return Figures(title="ledger", counted=counted, expected=expected), repeats


def read_ledger(path: Path) -> Sequence[Entry]:
    """Read what has been entered so far; nothing where nobody has."""
    if not path.exists():
        return []
    return [Entry(**json.loads(line)) for line in path.read_text().splitlines()]


def explain_repeats(
    entries: Sequence[Entry], interruptions: Sequence[Interruption]
) -> Sequence[str]:
    """Say of each second effect of a delivery what had happened since the one before."""
    last: dict[str, Entry] = {}
    lines: list[str] = []
    for entry in entries:
        before = last.get(entry.delivery)
        if before is not None:
            between = [one.blow for one in interruptions if before.at <= one.at <= entry.at]
            reason = ", ".join(between) or "no interruption explains it"
            lines.append(
                f"{entry.delivery} by run {entry.run}, attempt {entry.attempt}, "
                f"after run {before.run}, attempt {before.attempt}: {reason}"
            )
        last[entry.delivery] = entry
    return lines


async def _progress(site: Site, book: Path, entries: int) -> None:
    async def reached() -> bool:
        return len(read_ledger(book)) >= entries

    await site.until(reached, description=f"{entries} executions")


async def _all_completed(site: Site, messages: int) -> None:
    """Wait until every run is Completed and the queue is empty: nothing can come any more."""

    async def nothing_left() -> bool:
        depth = await site.session.depth(site.queue)
        states = await site.runs.column("state_type::text")
        left = depth.ready + depth.in_flight + depth.delayed + depth.dead
        return left == 0 and states.count("COMPLETED") == len(states) == messages

    await site.until(nothing_left, description="all runs to complete", interval=0.2)


def _event(number: int, book: Path) -> Mapping[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"m{number}",
        "source": "/chaos",
        "type": "noa.job.ledger",
        "data": {"path": str(book), "entry": number},
    }
