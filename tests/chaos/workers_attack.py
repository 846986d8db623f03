"""Strikes warm workers and the processes of their runs, and cancels runs at bad moments."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from random import Random
from typing import TypeVar
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.states import Cancelling

from tests.chaos.struck_runs import read_entries
from tests.chaos.victims import children, fork_server, run_processes
from tests.chaos.workers_plan import WorkerBlow, WorkersPlan, message_name
from tests.chaos.workers_site import WorkersSite
from tests.waiting import eventually

T = TypeVar("T")

#: How long a blow waits for its victim: a worker may have to start first, on a busy machine.
_PATIENCE_SECONDS = 120
#: How long it may take until further runs begin, with Prefect's server away meanwhile.
_PROGRESS_SECONDS = 900
#: A blow falls this much later than it could at the most: no moment is spared.
_LONGEST_DELAY_SECONDS = 0.5
#: How long after a run became Pending it is cancelled at the latest.
_JUST_AFTER_SECONDS = 0.1


class WorkersAttack:
    """Deals blows as the plan says; what is struck is drawn.

    Args:
        site: What is struck.
        plan: Says which messages are left to their own fate.
    """

    def __init__(self, site: WorkersSite, plan: WorkersPlan) -> None:
        self._site, self._plan = site, plan
        self._numbers = Random(plan.seed)
        self._deaf_run = ""
        self._special = {message_name(number) for number in plan.special}
        self._prefect = asyncio.Lock()
        self.dealt: Counter[WorkerBlow] = Counter()
        #: How many runs that ignore SIGTERM were cancelled.
        self.deaf_cancelled = 0
        #: Those that were ended by SIGKILL.
        self.killed = set[int]()
        #: The runs whose cancellation was asked for.
        self.cancelled = set[str]()

    async def carry_out(self) -> None:
        """Strike as runs begin; several blows may be in the making at once."""
        async with asyncio.TaskGroup() as strikes:
            strikes.create_task(self._cancel_the_deaf_one())
            for progress, blow in self._plan.schedule():
                with suppress(AssertionError):
                    await self._reached(progress)
                strikes.create_task(self._strike(blow))

    async def _strike(self, blow: WorkerBlow) -> None:
        """Deal one blow; one that finds no victim isn't dealt, and the figures say so."""
        await asyncio.sleep(self._numbers.uniform(0, _LONGEST_DELAY_SECONDS))
        with suppress(AssertionError):
            await self._deal(blow)
            self.dealt[blow] += 1

    async def _deal(self, blow: WorkerBlow) -> None:
        match blow:
            case WorkerBlow.KILL_WORKER:
                await self._kill(self._site.workers.living, "a worker")
            case WorkerBlow.KILL_FORK_SERVER:
                await self._kill(self._fork_servers, "a fork server at work")
            case WorkerBlow.KILL_RUN:
                await self._kill(self._run_processes, "a process of a run")
            case WorkerBlow.CANCEL:
                await self._cancel(await self._any_run("state_type = 'RUNNING'"))
            case WorkerBlow.CANCEL_PENDING:
                run = await self._just_pending()
                await asyncio.sleep(self._numbers.uniform(0, _JUST_AFTER_SECONDS))
                await self._cancel(run)
            case WorkerBlow.STOP_PREFECT:
                await self._stop_prefect()

    async def _kill(self, look: Callable[[], Sequence[int]], description: str) -> None:
        """Draw one of the processes found, and end it by SIGKILL."""

        async def killed() -> bool:
            if not (victims := look()):
                return False
            victim = self._numbers.choice(victims)
            self.killed.add(victim)
            os.kill(victim, signal.SIGKILL)  # where it has just ended, another is found
            return True

        await self._until(killed, description)

    def _run_processes(self) -> Sequence[int]:
        """The processes of runs, but for the one that is cancelled because it is deaf."""
        deaf = {one.pid for one in read_entries(self._site.ledger) if one.run == self._deaf_run}
        return sorted(run_processes(self._site.workers.runs) - deaf)

    def _fork_servers(self) -> Sequence[int]:
        """The fork servers with a process of a run."""
        busy = run_processes(self._site.workers.runs)
        found = (fork_server(worker) for worker in self._site.workers.living())
        return [pid for pid in found if pid is not None and children(pid) & busy]

    async def _stop_prefect(self) -> None:
        async with self._prefect:
            await asyncio.to_thread(self._site.prefect.kill)
            await asyncio.sleep(self._plan.away_seconds)
            await asyncio.to_thread(self._site.prefect.start)

    async def _cancel_the_deaf_one(self) -> None:
        deaf = message_name(self._plan.special[0])
        which = f"labels ->> 'noa.message-id' = '{deaf}'"

        async def begun() -> str | None:
            for (run,) in await self._site.runs.rows("id::text", which=which):
                self._deaf_run = run
                if any(one.run == run for one in read_entries(self._site.ledger)):
                    return run
            return None

        with suppress(AssertionError):
            run = await self._until(
                begun, "the deaf run to begin", within=_PROGRESS_SECONDS, interval=0.2
            )
            await self._cancel(run)
            self.deaf_cancelled += 1

    async def _cancel(self, run: str) -> None:
        """Ask for a run's cancellation, as `prefect flow-run cancel` does."""
        self.cancelled.add(run)
        async with self._prefect, get_client() as client:
            await client.set_flow_run_state(UUID(run), Cancelling())

    async def _any_run(self, which: str) -> str:
        """Wait for runs that meet a condition, and draw one of them."""

        async def found() -> str | None:
            ids = await self._ordinary_runs(which)
            return self._numbers.choice(sorted(ids)) if ids else None

        return await self._until(found, "a run to cancel")

    async def _just_pending(self) -> str:
        """Wait for a run that becomes Pending while we look."""
        which = "state_type = 'PENDING'"
        seen = await self._ordinary_runs(which)

        async def found() -> str | None:
            nonlocal seen
            before, seen = seen, await self._ordinary_runs(which)
            return next(iter(seen - before), None)

        return await self._until(found, "a run to become Pending")

    async def _ordinary_runs(self, which: str) -> set[str]:
        """The runs that meet a condition, and that are neither special nor cancelled."""
        rows = await self._site.runs.rows("id::text, labels ->> 'noa.message-id'", which=which)
        return {run for run, message in rows if message not in self._special} - self.cancelled

    async def _reached(self, progress: int) -> None:
        """Wait until so many runs have begun, or were cancelled."""

        async def reached() -> bool:
            begun = {one.run for one in read_entries(self._site.ledger)}
            return len(begun | self.cancelled) >= progress

        await self._until(
            reached, f"{progress} runs to begin", within=_PROGRESS_SECONDS, interval=0.05
        )

    async def _until(
        self,
        predicate: Callable[[], Awaitable[T | None]],
        description: str,
        *,
        within: float = _PATIENCE_SECONDS,
        interval: float = 0.01,
    ) -> T:
        return await eventually(
            predicate, description=description, timeout=within, interval=interval
        )
