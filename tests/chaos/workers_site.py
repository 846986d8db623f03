"""Everything that an attack on workers has running: an installation, a consumer, workers."""

import tempfile
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import UUID, uuid4

from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import IntervalSchedule

from blocks.broker import Session
from blocks.providers import load_broker
from deployments.apply import read_automations, upsert_automation
from noa_flows.job import JobFlow
from noa_flows.prefect_api import PATIENT, connect_to_prefect
from tests.acceptance.installation import Installation
from tests.chaos.consumer_process import Assignment
from tests.chaos.consumers import Consumers
from tests.chaos.runs_table import RunsTable, open_runs_table
from tests.chaos.site import LEASE_SECONDS
from tests.chaos.supervised_workers import SupervisedWorkers
from tests.chaos.workers_plan import MEMORY_LIMIT_MIB, PENDING_PATIENCE_SECONDS
from tests.jobs.struck_jobs import struck_dead, struck_rerun
from tests.project import PROJECT
from tests.servers.postgres_databases import PostgresDatabases
from tests.servers.prefect_database import postgres_database
from tests.servers.prefect_server import PrefectServer

_WORKERS, _AT_ONCE = 2, 4
#: Prefect's automations may lag minutes behind after its server was killed.
_RECOVERY_SECONDS = 30
_JOBS: Final[Mapping[str, str]] = {
    "NOA_JOBS": '{"struck-rerun": "tests.jobs.struck_jobs:struck_rerun", '
    '"struck-dead": "tests.jobs.struck_jobs:struck_dead"}',
    "PYTHONPATH": str(PROJECT),
    "NOA_WORKERS__PENDING_SECONDS": str(PENDING_PATIENCE_SECONDS),
}


@dataclass(frozen=True, kw_only=True)
class WorkersSite:
    """Servers that are up, and workers and consumers that aren't started yet."""

    folder: Path
    queue: str
    session: Session
    prefect: PrefectServer
    consumers: Consumers
    workers: SupervisedWorkers
    runs: RunsTable

    @property
    def ledger(self) -> Path:
        """Where the jobs enter what they do."""
        return self.folder / "ledger"


@asynccontextmanager
async def open_workers_site(
    *, seed: int, databases: PostgresDatabases, folder: Path | None
) -> AsyncGenerator[WorkersSite]:
    """Install noa-flows as an operator does, and deploy the two jobs beside its own.

    Args:
        seed: Of everything that is drawn.
        databases: Where Prefect gets a database of its own.
        folder: Where ledger and logs are left; without one, they go in the end.
    """
    queue = f"struck-{uuid4().hex[:8]}"
    with _folder(folder) as place, _prefect(place, databases) as prefect, prefect.current():
        installation = Installation(prefect, place)
        installation.apply()
        await _deploy(struck_rerun, struck_dead)
        await _shorten_the_patience()
        settings = {**installation.settings, **_JOBS}
        assignment = Assignment(
            broker=f"embedded://{place / 'queue.db'}",
            lease_seconds=LEASE_SECONDS,
            queue=queue,
            jobs=frozenset({struck_rerun.name, struck_dead.name}),
            journal=place / "journal",
            seed=seed,
        )
        broker = await load_broker(assignment.broker)
        async with (
            broker.connect() as session,
            open_runs_table(prefect.database_url, queue) as runs,
        ):
            await session.declare(queue)
            yield WorkersSite(
                folder=place,
                queue=queue,
                session=session,
                prefect=prefect,
                consumers=Consumers(assignment, settings={**prefect.env(), **settings}),
                workers=SupervisedWorkers(
                    prefect,
                    place,
                    count=_WORKERS,
                    limit=_AT_ONCE,
                    settings=settings,
                    numbers=Random(seed),
                ),
                runs=runs,
            )


async def _deploy(*jobs: JobFlow[Any, Any]) -> None:
    """Deploy jobs as `prefect.yaml` does its own: beating, and known by tags."""
    async with get_client() as client:
        for flow in jobs:
            await client.create_deployment(
                flow_id=await client.create_flow(flow),
                name=flow.name,
                entrypoint=f"{flow.fn.__module__}.{flow.fn.__name__}",
                work_pool_name="noa",
                work_queue_name="normal",
                pull_steps=[],
                tags=["noa", "heartbeat:30s", f"job:{flow.name}"],
                job_variables={
                    "env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"},
                    "memory_limit_mib": MEMORY_LIMIT_MIB,
                },
                enforce_parameter_schema=True,
                parameter_openapi_schema=flow.parameters.model_dump(),
            )


async def _shorten_the_patience() -> None:
    """Notice sooner than by default what a dead worker has left, and what no event has told."""
    automation = next(one for one in read_automations() if "goes back" in one["name"])
    trigger = {**automation["trigger"], "within": PENDING_PATIENCE_SECONDS + 5}
    async with connect_to_prefect(max_retries=PATIENT) as api, get_client() as client:
        await upsert_automation(api, {**automation, "trigger": trigger})
        recover = await api.read_deployment("recover/recover")
        often = IntervalSchedule(interval=timedelta(seconds=_RECOVERY_SECONDS))
        await client.create_deployment_schedules(UUID(recover.id), [(often, True)])


@contextmanager
def _folder(given: Path | None) -> Generator[Path]:
    if given is not None:
        given.mkdir(parents=True)
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="noa-chaos-", ignore_cleanup_errors=True) as made:
        yield Path(made)


def _prefect(folder: Path, databases: PostgresDatabases) -> PrefectServer:
    home = folder / "prefect"
    home.mkdir()
    return PrefectServer(database_url=postgres_database(databases), folder=home)
