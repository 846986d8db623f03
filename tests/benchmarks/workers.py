"""Flow runs executed by the warm worker, beside Prefect's process worker and its server's limit.

Both workers have the same limit and poll as often; the server is Prefect's on PostgreSQL.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from uuid import UUID, uuid4

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import arun_deployment
from prefect.states import Completed, Running

from noa_flows.prefect_api import BULK_LIMIT, connect_to_prefect
from tests.jobs.nothing_flow import nothing
from tests.servers.postgres_server import PostgresServer
from tests.servers.prefect_database import postgres_database
from tests.servers.prefect_server import PrefectServer
from tests.warm_worker import RunningWorker

RUNS = 100
LIMIT = 4
SINGLES = 20
_POLLING = {"PREFECT_WORKER_QUERY_SECONDS": "0.5"}


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
    """Execute no-op runs with both workers, one after the other, and none at all."""
    with (
        TemporaryDirectory() as folder,
        PostgresServer() as postgres,
        PrefectServer(database_url=postgres_database(postgres.databases)) as prefect,
        prefect.current(),
    ):
        measured: dict[str, Measured] = {}
        for kind in ("process", "warm"):
            worker = RunningWorker(prefect, Path(folder), kind=kind, limit=LIMIT, settings=_POLLING)
            with worker:
                measured[kind] = await _measure(worker)
        return Report(**measured, floor=await _floor(worker))


async def _measure(worker: RunningWorker) -> Measured:
    deployment = await worker.deploy(nothing)
    alone: list[FlowRun] = []
    answered: list[float] = []
    for _ in range(SINGLES):
        await asyncio.sleep(1)
        began = time.monotonic()
        alone.append(await _run_and_wait(deployment))
        answered.append(time.monotonic() - began)
    began = time.monotonic()
    runs = await _create(deployment, RUNS)
    await _until_ended(runs)
    lasted = time.monotonic() - began
    return Measured(
        start_alone=median([await _start(run.id) for run in alone[1:]]),
        start_loaded=median([await _start(run) for run in runs]),
        answered=median(answered[1:]),
        runs_a_minute=60 * len(runs) / lasted,
    )


async def _run_and_wait(deployment: UUID) -> FlowRun:
    return await arun_deployment(
        deployment, parameters={"number": 1}, timeout=60, poll_interval=0.02
    )


async def _create(deployment: UUID, number: int) -> Sequence[UUID]:
    """Create runs in bulk, as the bridge does."""
    bodies = [{"parameters": {"number": 1}, "idempotency_key": uuid4().hex} for _ in range(number)]
    async with connect_to_prefect() as api:
        made = [
            item
            for start in range(0, number, BULK_LIMIT)
            for item in await api.create_runs(str(deployment), bodies[start : start + BULK_LIMIT])
        ]
    return [UUID(item.run_id) for item in made]


async def _until_ended(runs: Sequence[UUID]) -> None:
    """Wait until all are completed; asking costs the server little."""
    completed = {"state": {"type": {"any_": ["COMPLETED"]}}, "id": {"any_": list(map(str, runs))}}
    async with connect_to_prefect() as api:
        while await api.count_runs(completed) < len(runs):  # noqa: ASYNC110 — nothing to wait on
            await asyncio.sleep(0.5)


async def _start(run: UUID) -> float:
    async with get_client() as client:
        states = {state.name: state for state in await client.read_flow_run_states(run)}
    return (states["Running"].timestamp - states["Pending"].timestamp).total_seconds()


async def _floor(worker: RunningWorker) -> float:
    """The runs a minute that one client can create in bulk, start and complete."""
    deployment = await worker.deploy(nothing)
    number = RUNS
    began = time.monotonic()
    runs = await _create(deployment, number)
    async with get_client() as client:
        for run in runs:
            for state in (Running(), Completed()):
                await client.set_flow_run_state(run, state)
    return 60 * number / (time.monotonic() - began)
