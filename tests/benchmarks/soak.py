"""One warm worker over thousands of no-op runs: whether it gets slower, or bigger.

Prefect's server is on PostgreSQL, and what it alone takes is measured after each portion. Each
portion of runs is created at once and waited for, so that never more than one portion waits. The
variable NOA_TEST_SOAK_RUNS asks for fewer runs.
"""

import asyncio
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Self
from uuid import UUID

from noa_flows.prefect_api import connect_to_prefect
from tests.benchmarks.no_op_runs import ALONE_RUNS, create_runs, seconds_to_start, server_alone
from tests.jobs.nothing_flow import nothing
from tests.servers.postgres_server import PostgresServer
from tests.servers.prefect_database import postgres_database
from tests.servers.prefect_server import PrefectServer
from tests.warm_worker import RunningWorker

RUNS = 2_000
PORTION = 200
LIMIT = 4
#: Every so many runs, one has its states read.
_SAMPLED = 10
_LOOK_SECONDS = 4
_FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_PROCESSES = ("worker", "fork server", "child", "largest child")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a process holds, in MiB; or the medians of several."""

    resident: float
    #: Its share, where pages that it has in common with others are divided among all.
    proportional: float

    @classmethod
    def of(cls, process: int) -> Self:
        """Read it.

        Raises:
            OSError: The process has ended.
            KeyError: It is just ending, and has no memory any more.
        """
        rows = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        kibibytes = {row.split()[0]: int(row.split()[1]) for row in rows[1:]}
        return cls(resident=kibibytes["Rss:"] / 1024, proportional=kibibytes["Pss:"] / 1024)

    @classmethod
    def median(cls, several: Sequence[Self]) -> Self:
        """The medians of both."""
        return cls(
            resident=median(one.resident for one in several),
            proportional=median(one.proportional for one in several),
        )


@dataclass
class Watch:
    """The memory of a worker's processes, as it was each time that somebody looked."""

    worker: int
    seen: dict[str, list[Memory]] = field(default_factory=dict[str, list[Memory]])
    _looked: float = -math.inf

    def look_now_and_then(self) -> None:
        """Note what the processes hold now; seldom, since reading it holds them up."""
        if time.monotonic() - self._looked < _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        self._note("worker", self.worker)
        for child in _children(self.worker):
            if _is_fork_server(child):
                self._note("fork server", child)
                for run in _children(child):
                    self._note("child", run)

    def summary(self) -> Mapping[str, Memory]:
        """The medians, and the largest of the runs' processes."""
        largest = max(self.seen["child"], key=lambda one: one.proportional)
        medians = {name: Memory.median(several) for name, several in self.seen.items()}
        return {**medians, "largest child": largest}

    def _note(self, name: str, process: int) -> None:
        try:
            memory = Memory.of(process)
        except (OSError, KeyError):
            return
        self.seen.setdefault(name, []).append(memory)


@dataclass(frozen=True, kw_only=True)
class Portion:
    """What was measured while one portion of the runs was executed."""

    #: How many runs there had been when it ended.
    upto: int
    completed: int
    runs_a_minute: float
    #: What the server alone took of them right after, by one client without a worker.
    server_a_minute: float
    #: The median of the seconds from Pending to Running.
    start: float
    memory: Mapping[str, Memory]

    def __str__(self) -> str:
        memory = "".join(
            f"  {found.resident:>6.1f} /{found.proportional:>6.1f}"
            for found in map(self.memory.__getitem__, _PROCESSES)
        )
        rate = f"{self.runs_a_minute:>9.0f}  {self.share:>9.0%}  {self.start:>7.3f} s"
        return f"{self.upto:>6}  {self.completed:>9}  {rate}{memory}"

    @property
    def share(self) -> float:
        """The rate, as a share of what the server alone took."""
        return self.runs_a_minute / self.server_a_minute

    def beside(self, other: Self) -> str:
        """The ratios of this portion to another."""
        rate, start = self.runs_a_minute / other.runs_a_minute, self.start / other.start
        share = self.share / other.share
        memory = "".join(
            f"  {mine.resident / its.resident:>6.2f} /{mine.proportional / its.proportional:>6.2f}"
            for mine, its in ((self.memory[name], other.memory[name]) for name in _PROCESSES)
        )
        return f"{'last/second':17}  {rate:>9.2f}  {share:>9.2f}  {start:>9.2f}{memory}"


async def measure_soak() -> str:
    """Execute the runs, print each portion when it has ended, and return the closing line."""
    runs = int(os.environ.get("NOA_TEST_SOAK_RUNS", RUNS))
    print(
        f"\n{runs} no-op flow runs, Prefect on PostgreSQL, limit {LIMIT}; RSS / PSS in MiB\n"
        f"{'runs':>6}  {'completed':>9}  {'a minute':>9}  {'of server':>9}  {'start':>9}"
        + "".join(f"  {name:>14}" for name in _PROCESSES),
        flush=True,
    )
    with (
        TemporaryDirectory() as folder,
        PostgresServer() as postgres,
        PrefectServer(database_url=postgres_database(postgres.databases)) as prefect,
        prefect.current(),
        RunningWorker(prefect, Path(folder), limit=LIMIT) as worker,
    ):
        deployment = await worker.deploy(nothing)
        portions: list[Portion] = []
        for first in range(0, runs, PORTION):
            number = min(PORTION, runs - first)
            portions.append(await _measure(worker, deployment, number, upto=first + number))
            print(portions[-1], flush=True)
    # The first one warms up.
    return portions[-1].beside(portions[min(1, len(portions) - 1)])


async def _measure(worker: RunningWorker, deployment: UUID, number: int, *, upto: int) -> Portion:
    began = time.monotonic()
    runs = await create_runs(deployment, number)
    watch = Watch(worker.pid)
    async with connect_to_prefect() as api:
        while await api.count_runs(_in_states(runs, _FINAL)) < number:
            watch.look_now_and_then()
            await asyncio.sleep(0.5)
        lasted = time.monotonic() - began
        completed = await api.count_runs(_in_states(runs, ["COMPLETED"]))
    return Portion(
        upto=upto,
        completed=completed,
        runs_a_minute=60 * number / lasted,
        server_a_minute=60 * ALONE_RUNS / await server_alone(),
        start=median([await seconds_to_start(run) for run in runs[::_SAMPLED]]),
        memory=watch.summary(),
    )


def _in_states(runs: Sequence[UUID], types: Sequence[str]) -> Mapping[str, object]:
    return {"id": {"any_": [str(run) for run in runs]}, "state": {"type": {"any_": list(types)}}}


def _children(process: int) -> Sequence[int]:
    """The process ids of its children."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone while we looked
            if int(stat.read_text().rpartition(")")[2].split()[1]) == process:
                found.append(int(stat.parent.name))
    return found


def _is_fork_server(process: int) -> bool:
    try:
        return b"multiprocessing.forkserver" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False
