"""The hand-over under fire: each message has exactly one run, whatever is killed, cut or spoilt."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from blocks.message import Depth
from noa_flows.jobs.noop_job import noop
from tests.chaos.attack import Attack
from tests.chaos.brokers import BROKERS
from tests.chaos.figures import Figures
from tests.chaos.plan import Blow, Plan
from tests.chaos.publisher import Publisher
from tests.chaos.site import Site, open_site
from tests.servers.postgres_databases import PostgresDatabases
from tests.waiting import eventually

#: So many bulk calls are needed at least, that there are enough for all faults of such calls.
_BULK_CALLS = 100
_CHUNK = 20


def hand_over_plan(provider: str, *, messages: int, seed: int) -> Plan:
    """Twenty kills, lost answers and failing bulk calls each; and what a server can suffer.

    A broker that keeps its messages in memory only is stalled and cut, and not killed.
    """
    blows = {Blow.KILL_CONSUMER: 20, Blow.DROP_ANSWER: 20, Blow.FAIL_BULK: 20}
    blows |= {Blow.RESTART_PREFECT: 2}
    if provider in BROKERS:
        blows |= {Blow.STALL_BROKER: 3, Blow.CUT_CONNECTIONS: 5}
        if BROKERS[provider].keeps_messages:
            blows |= {Blow.RESTART_BROKER: 2}
    return Plan(messages=messages, seed=seed, blows=blows)


async def hand_over_under_fire(provider: str, plan: Plan, databases: PostgresDatabases) -> Figures:
    """Hand all messages over to Prefect while the plan is carried out, and count the runs."""
    began = time.monotonic()
    settings = {
        "NOA_BRIDGE__BATCH_SIZE": str(min(100, max(2, plan.messages // _BULK_CALLS))),
        "NOA_BRIDGE__MAX_WAITING": "100000",
    }
    async with open_site(
        provider=provider, job=noop, seed=plan.seed, databases=databases, settings=settings
    ) as site:
        publisher = Publisher(site.session, site.queue)
        attack = Attack(site, Random(plan.seed))
        events = [_event(number) for number in range(plan.messages)]
        half = len(events) // 2
        await publisher.publish(events[:half])
        with site.consumers:
            async with asyncio.TaskGroup() as both:
                both.create_task(_publish_along(publisher, site, events[half:]))
                both.create_task(_carry_out(plan, attack, site))
            await site.until(lambda: _settled(site), description="the queue to be empty")
        # Some brokers count only now what the consumers still held.
        depth = await eventually(
            lambda: _left(site), description="the queue to stay empty", timeout=10
        )
        counted = await _count(site, plan, attack, publisher, depth)
    counted["seconds"] = round(time.monotonic() - began)
    return Figures(title=provider, counted=counted, expected=_expected(plan))


async def _publish_along(
    publisher: Publisher, site: Site, events: Sequence[Mapping[str, Any]]
) -> None:
    """Publish as runs come to be, so that as many messages as at first are waiting."""
    for start in range(0, len(events), _CHUNK):
        await _progress(site, start)
        await publisher.publish(events[start : start + _CHUNK])


async def _carry_out(plan: Plan, attack: Attack, site: Site) -> None:
    """Strike as runs come to be; consumers are killed even while a server is away."""
    async with asyncio.TaskGroup() as strikes:
        for progress, blow in plan.schedule():
            await _progress(site, progress)
            strikes.create_task(attack.strike(blow))


async def _progress(site: Site, runs: int) -> None:
    async def reached() -> bool:
        return await site.runs.count() >= runs

    await site.until(reached, description=f"{runs} runs")


async def _settled(site: Site) -> bool:
    held = site.journal.holders() & site.consumers.living()
    return not held and await _left(site) is not None


async def _left(site: Site) -> Depth | None:
    """What is left in the queue once nothing waits in it; None before."""
    depth = await site.session.depth(site.queue)
    return None if depth.ready + depth.in_flight + depth.delayed else depth


async def _count(
    site: Site, plan: Plan, attack: Attack, publisher: Publisher, depth: Depth
) -> dict[str, float]:
    """Count in the database what came of it, and in the broker what is left."""
    site.journal.holders()
    keys = await site.runs.column("idempotency_key")
    messages = await site.runs.column("labels ->> 'noa.message-id'")
    own = await site.runs.column("labels ->> 'noa.message-id' = 'm' || (parameters ->> 'echo')")
    published = {_name(number) for number in range(plan.messages)}
    return {
        "messages": plan.messages,
        "runs": len(keys),
        "distinct keys": len(set(keys)),
        "messages with a run": len(published & set(messages)),
        "double runs": len(messages) - len(set(messages)),
        "runs with their own payload": own.count(True),
        **{blow.value: attack.dealt[blow] for blow in plan.blows},
        "messages delivered again": len(site.journal.redelivered),
        "publish calls repeated": publisher.repeated,
        "left ready": depth.ready,
        "left in flight": depth.in_flight,
        "left delayed": depth.delayed,
        "left dead": depth.dead,
    }


def _expected(plan: Plan) -> dict[str, float]:
    each = ("runs", "distinct keys", "messages with a run", "runs with their own payload")
    none = ("double runs", "left ready", "left in flight", "left delayed", "left dead")
    return {
        **dict.fromkeys(each, plan.messages),
        **dict.fromkeys(none, 0),
        **{blow.value: times for blow, times in plan.blows.items()},
    }


def _event(number: int) -> Mapping[str, Any]:
    return {
        "specversion": "1.0",
        "id": _name(number),
        "source": "/chaos",
        "type": "noa.job.noop",
        "data": {"echo": number},
    }


def _name(number: int) -> str:
    return f"m{number}"
