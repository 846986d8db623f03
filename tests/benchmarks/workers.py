"""Flow runs executed by the warm worker, beside Prefect's process worker and its server's limit.

Both workers have the same limit and poll as often; the server is Prefect's on PostgreSQL. They take
turns, several times, so that a machine that others slow down slows down both.
"""

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final
from uuid import UUID

from prefect.client.schemas.objects import FlowRun
from prefect.deployments import arun_deployment

from noa_flows.prefect_api import connect_to_prefect
from tests.benchmarks.no_op_runs import ALONE_RUNS, create_runs, seconds_to_start, server_alone
from tests.jobs.nothing_flow import nothing
from tests.servers.postgres_server import PostgresServer
from tests.servers.prefect_database import postgres_database
from tests.servers.prefect_server import PrefectServer
from tests.warm_worker import RunningWorker

ROUNDS = 3
LIMIT = 4
#: Runs one after the other in each round, a multiple of the limit: over a hundred in all.
SERIES: Final[Mapping[str, int]] = {"process": 36, "warm": 120}
#: So many of them wait or run, as a consumer keeps it: the server calls what waits 15 s late, and
#: that costs it as much as starting it.
_BACKLOG = 20
#: Runs one at a time in each round; the first isn't counted.
SINGLES = 6
_POLLING = {"PREFECT_WORKER_QUERY_SECONDS": "0.5"}


@dataclass(kw_only=True)
class Sample:
    """What one worker was seen to do, in seconds, in all rounds."""

    #: From Pending to Running, one run at a time.
    alone: list[float] = field(default_factory=list[float])
    #: From Pending to Running, with as many at once as the worker takes.
    loaded: list[float] = field(default_factory=list[float])
    #: From the call of `run_deployment` to its return, one run at a time.
    answered: list[float] = field(default_factory=list[float])
    #: Each series, from its beginning to its end.
    series: list[float] = field(default_factory=list[float])


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One worker: medians in seconds, and a rate a minute."""

    #: From Pending to Running, one run at a time.
    start_alone: float
    #: From Pending to Running, with as many at once as the worker takes.
    start_loaded: float
    #: From the call of `run_deployment` to its return, one run at a time.
    answered: float
    runs_a_minute: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """Both workers, and the server's floor in runs a minute."""

    warm: Measured
    process: Measured
    floor: float

    def __str__(self) -> str:
        warm, process = self.warm, self.process
        rows = [
            ("pending → running, alone", process.start_alone, warm.start_alone),
            (f"pending → running, {LIMIT} at once", process.start_loaded, warm.start_loaded),
            ("run_deployment, call → result", process.answered, warm.answered),
        ]
        rate, floor = warm.runs_a_minute, self.floor
        lines = [
            f"\nNo-op flow runs, Prefect on PostgreSQL, limit {LIMIT}",
            f"{'':32}  {'process':>9}  {'warm':>9}  {'ratio':>7}",
        ]
        lines += [f"{name:32}  {a:>7.2f} s  {b:>7.2f} s  1/{a / b:<5.1f}" for name, a, b in rows]
        times = rate / process.runs_a_minute
        lines += [
            f"{'runs a minute':32}  {process.runs_a_minute:>9.0f}  {rate:>9.0f}  {times:>6.1f}x",
            f"{'server alone: create, 2 states':32}  {'':>9}  {floor:>9.0f}  {rate / floor:>6.0%}",
        ]
        return "\n".join(lines)


async def measure_workers() -> Report:
    """Execute no-op runs with both workers in turn, and with none at all."""
    samples = {kind: Sample() for kind in SERIES}
    floors: list[float] = []
    with (
        TemporaryDirectory() as folder,
        PostgresServer() as postgres,
        PrefectServer(database_url=postgres_database(postgres.databases)) as prefect,
        prefect.current(),
    ):
        for _ in range(ROUNDS):
            for kind, sample in samples.items():
                place = Path(tempfile.mkdtemp(dir=folder))
                with RunningWorker(
                    prefect, place, kind=kind, limit=LIMIT, settings=_POLLING
                ) as worker:
                    await _observe(worker, sample)
                floors.append(await server_alone())
    measured = {
        kind: Measured(
            start_alone=median(sample.alone),
            start_loaded=median(sample.loaded),
            answered=median(sample.answered),
            runs_a_minute=60 * ROUNDS * SERIES[kind] / sum(sample.series),
        )
        for kind, sample in samples.items()
    }
    return Report(**measured, floor=60 * len(floors) * ALONE_RUNS / sum(floors))


async def _observe(worker: RunningWorker, sample: Sample) -> None:
    deployment = await worker.deploy(nothing)
    for single in range(SINGLES):
        await asyncio.sleep(1)
        began = time.monotonic()
        run = await _run_and_wait(deployment)
        if single > 0:
            sample.answered.append(time.monotonic() - began)
            sample.alone.append(await seconds_to_start(run.id))
    began = time.monotonic()
    runs = await _execute(deployment, SERIES[worker.kind])
    sample.series.append(time.monotonic() - began)
    sample.loaded += [await seconds_to_start(run) for run in runs]


async def _run_and_wait(deployment: UUID) -> FlowRun:
    return await arun_deployment(
        deployment, parameters={"number": 1}, timeout=60, poll_interval=0.02
    )


async def _execute(deployment: UUID, number: int) -> Sequence[UUID]:
    """Create so many runs, and wait until all are completed; asking costs the server little."""
    runs: list[UUID] = []
    completed = 0
    async with connect_to_prefect() as api:
        while completed < number:
            left = len(runs) - completed
            if left <= _BACKLOG / 2 and len(runs) < number:
                runs += await create_runs(deployment, min(_BACKLOG - left, number - len(runs)))
            await asyncio.sleep(0.25)
            wanted = {"any_": [str(run) for run in runs]}
            state = {"type": {"any_": ["COMPLETED"]}}
            completed = await api.count_runs({"id": wanted, "state": state})
    return runs
