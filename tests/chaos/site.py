"""Everything that a chaos test has running: a broker, Prefect on PostgreSQL, consumers."""

import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from uuid import uuid4

from blocks.broker import Broker, Session
from blocks.providers import load_broker
from noa_flows.job import JobFlow
from tests.chaos.brokers import Struck, struck_broker
from tests.chaos.consumer_process import Assignment
from tests.chaos.consumers import Consumers
from tests.chaos.faulty_api import FaultyApi
from tests.chaos.journal import Journal
from tests.chaos.runs_table import RunsTable, open_runs_table
from tests.deployed import deploy
from tests.servers.postgres_databases import PostgresDatabases
from tests.servers.prefect_database import postgres_database
from tests.servers.prefect_server import PrefectServer
from tests.waiting import eventually

T = TypeVar("T")

#: Short, so that what a killed consumer held is soon delivered again.
LEASE_SECONDS = 2.0
#: Longer than any pause of a circuit breaker and any start of a server, on a busy machine.
_PATIENCE_SECONDS = 240


@dataclass(frozen=True, kw_only=True)
class Site:
    """Servers that are up, and consumers that aren't started yet."""

    folder: Path
    queue: str
    session: Session
    broker: Struck
    prefect: PrefectServer
    api: FaultyApi
    consumers: Consumers
    journal: Journal
    runs: RunsTable

    async def until(
        self,
        predicate: Callable[[], Awaitable[T | None]],
        *,
        description: str,
        interval: float = 0.05,
    ) -> T:
        """Wait as `eventually` does, but no longer than the consumers are at work."""

        async def asked() -> tuple[T | None] | None:
            if not self.consumers.running:
                return (None,)
            answer = await predicate()
            return (answer,) if answer else None

        (answer,) = await eventually(
            asked, description=description, timeout=_PATIENCE_SECONDS, interval=interval
        )
        self.consumers.check()
        assert answer is not None
        return answer


@asynccontextmanager
async def open_site(
    *,
    provider: str,
    job: JobFlow[Any, Any],
    seed: int,
    databases: PostgresDatabases,
    settings: Mapping[str, str],
) -> AsyncGenerator[Site]:
    """Start the servers, declare the queue and deploy the job.

    Args:
        provider: The broker, one of `brokers.PROVIDERS`.
        job: The one that all messages start.
        seed: Of everything that is drawn.
        databases: Where Prefect gets a database of its own.
        settings: Settings of noa-flows for the consumers, as environment variables.
    """
    queue = f"chaos-{uuid4().hex[:8]}"
    with _servers(provider, Random(seed), databases) as (folder, struck, prefect, api):
        with prefect.current():
            await deploy(job)
        assignment = Assignment(
            broker=struck.consumers_url,
            lease_seconds=LEASE_SECONDS,
            queue=queue,
            jobs=frozenset({job.name}),
            journal=folder / "journal",
            seed=seed,
        )
        environment = {**prefect.env(api_url=api.api_url), **settings}
        broker = await _broker(struck.url)
        async with (
            broker.connect() as session,
            open_runs_table(prefect.database_url, queue) as runs,
        ):
            await session.declare(queue)
            consumers = Consumers(assignment, settings=environment)
            yield Site(
                folder=folder,
                queue=queue,
                session=session,
                broker=struck,
                prefect=prefect,
                api=api,
                consumers=consumers,
                journal=Journal(assignment.journal),
                runs=runs,
            )


async def _broker(url: str) -> Broker:
    loaded = await load_broker(url)
    return loaded.model_copy(update={"lease_seconds": LEASE_SECONDS})


@contextmanager
def _servers(
    provider: str, numbers: Random, databases: PostgresDatabases
) -> Generator[tuple[Path, Struck, PrefectServer, FaultyApi]]:
    with (
        tempfile.TemporaryDirectory(prefix="noa-chaos-") as folder,
        struck_broker(provider, Path(folder)) as struck,
        PrefectServer(database_url=postgres_database(databases)) as prefect,
        FaultyApi(prefect.api_url, numbers) as api,
    ):
        yield Path(folder), struck, prefect, api
