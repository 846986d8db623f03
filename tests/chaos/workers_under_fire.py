"""Workers under fire: each run ends truly, whatever is killed, and no completed one is repeated."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from blocks.message import DeadLetter
from noa_flows.bridge.dead_letters import event_id
from tests.chaos.figures import Figures
from tests.chaos.publisher import Publisher
from tests.chaos.struck_runs import (
    CANCELLED,
    COMPLETED,
    ENDS,
    INTERRUPTED,
    Passage,
    StruckRun,
    explain,
    group_entries,
    judge,
    judge_deliveries,
    read_entries,
)
from tests.chaos.workers_attack import WorkersAttack
from tests.chaos.workers_plan import MEMORY_LIMIT_MIB, WorkersPlan, message_name
from tests.chaos.workers_site import WorkersSite, open_workers_site
from tests.servers.postgres_databases import PostgresDatabases
from tests.waiting import eventually

#: What is settled has to stay so this long.
_CALM_SECONDS = 10
_JOB = """CASE WHEN tags @> '["job:struck-dead"]' THEN 'struck-dead' ELSE 'struck-rerun' END"""


async def workers_under_fire(
    plan: WorkersPlan, databases: PostgresDatabases, *, folder: Path | None = None
) -> tuple[Figures, Sequence[str], Sequence[str]]:
    """Execute all messages on warm workers while the plan is carried out.

    Args:
        plan: What happens.
        databases: Where Prefect gets a database of its own.
        folder: Where ledger and logs are left; without one, they go in the end.

    Returns:
        The figures, the breaches, and each run that was executed more than once.
    """
    began = time.monotonic()
    async with open_workers_site(seed=plan.seed, databases=databases, folder=folder) as site:
        await Publisher(site.session, site.queue).publish(plan.events(str(site.ledger)))
        attack = WorkersAttack(site, plan)
        with site.consumers:
            async with site.workers:
                await attack.carry_out()
                with suppress(AssertionError):  # what hasn't come to an end is a breach
                    await _settled(site, plan)
            site.consumers.check()
        runs, entries = await _runs(site, attack.cancelled), read_entries(site.ledger)
        counted = await _counted(site, plan, attack, runs)
        (site.folder / "histories").write_text("\n".join(run.described() for run in runs))
    messages = [message_name(number) for number in range(plan.messages)]
    breaches = [*judge(runs), *judge_deliveries(runs, entries, messages)]
    breaches += _ended_alone(site, attack)
    counted |= {"breaches": len(breaches), "seconds": round(time.monotonic() - began)}
    expected = {
        "runs": plan.messages,
        "distinct delivery ids": plan.messages,
        # Nobody limits the memory of a run whose worker was killed.
        "killed for their memory": 1 - counted["hungry, and left by its worker"],
        "deaf run cancelled": 1,
        **{blow.value: times for blow, times in plan.blows.items()},
        "dead letters": counted[f"ended as {INTERRUPTED}"],
        "breaches": 0,
    }
    figures = Figures(title="workers", counted=counted, expected=expected)
    return figures, breaches, explain(runs)


async def _settled(site: WorkersSite, plan: WorkersPlan) -> None:
    """Wait until every run is at an end, and nothing waits in the queue any more."""
    calm_since: float | None = None

    async def settled() -> bool:
        nonlocal calm_since
        depth = await site.session.depth(site.queue)
        ends = Counter(await site.runs.column("state_name"))
        at_an_end = sum(ends[end] for end in ENDS)
        calm = depth.ready + depth.in_flight + depth.delayed == 0 and at_an_end == plan.messages
        if not calm:
            calm_since = None
        elif calm_since is None:
            calm_since = time.monotonic()
        return calm_since is not None and time.monotonic() - calm_since > _CALM_SECONDS

    await eventually(
        settled, description="all runs to end", timeout=plan.patience_seconds, interval=0.5
    )


async def _runs(site: WorkersSite, cancelled: set[str]) -> Sequence[StruckRun]:
    """Put together what Prefect, the ledger and the dead letters say of each run."""
    states: dict[str, list[Passage]] = {}
    for run, name, kind, at in await site.runs.states():
        states.setdefault(run, []).append(Passage(name=name, kind=kind, at=at))
    entries = group_entries(read_entries(site.ledger))
    reasons: dict[str, list[str]] = {}
    for letter in await _dead_letters(site):
        reasons.setdefault(event_id(letter), []).append(letter.reason)
    labels = "labels ->> 'noa.message-id', labels ->> 'noa.delivery-id'"
    return [
        StruckRun(
            id=run,
            message=message,
            delivery=delivery,
            job=name,
            states=states.get(run, []),
            entries=entries.get(run, []),
            asked_to_cancel=run in cancelled,
            dead_letters=reasons.get(message, []),
        )
        for run, message, delivery, name in await site.runs.rows(f"id::text, {labels}, {_JOB}")
    ]


async def _dead_letters(site: WorkersSite) -> Sequence[DeadLetter]:
    return [letter async for letter in site.session.browse_dead(site.queue)]


async def _counted(
    site: WorkersSite, plan: WorkersPlan, attack: WorkersAttack, runs: Sequence[StruckRun]
) -> dict[str, float]:
    ends = Counter(run.end for run in runs)
    begins = [len(run.begins()) for run in runs]
    # Said by the workers themselves: Prefect's server may have been away.
    killed = site.workers.wrote(f"its limit is {MEMORY_LIMIT_MIB} MiB")
    hungry = next(run.id for run in runs if run.message == message_name(plan.special[1]))
    return {
        "messages": plan.messages,
        "runs": len(runs),
        "distinct delivery ids": len({run.delivery for run in runs}),
        **{blow.value: attack.dealt[blow] for blow in plan.blows},
        "seconds away": plan.away_seconds,
        "deaf run cancelled": attack.deaf_cancelled,
        "killed for their memory": min(1, killed),
        "hungry, and left by its worker": int(not killed and site.workers.abandoned(hungry)),
        **{f"ended as {end}": ends[end] for end in (COMPLETED, CANCELLED, INTERRUPTED)},
        "ended otherwise": sum(ends.values()) - sum(ends[end] for end in ENDS),
        "asked to cancel": len(attack.cancelled),
        "executions": sum(begins),
        "runs executed more than once": sum(count > 1 for count in begins),
        "most executions of one run": max(begins, default=0),
        "interruptions": sum(run.interruptions for run in runs),
        "runs interrupted after their last line": sum(map(_interrupted_late, runs)),
        "dead letters": len(await _dead_letters(site)),
    }


def _interrupted_late(run: StruckRun) -> bool:
    """Whether a run had done everything when it was interrupted, and nobody could know."""
    return run.end == INTERRUPTED and bool(run.ends())


def _ended_alone(site: WorkersSite, attack: WorkersAttack) -> Sequence[str]:
    ended = site.workers.ended
    return [
        f"a worker that nobody killed has ended:\n{ended[pid]}"
        for pid in ended.keys() - attack.killed
    ]
