"""Messages handed over a second, beside the runs that Prefect's server can create in bulk."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from uuid import uuid4

from blocks.broker import Broker
from blocks.embedded_broker import EmbeddedBroker
from blocks.redis_broker import RedisBroker
from noa_flows.jobs.noop_job import noop
from noa_flows.prefect_api import BULK_LIMIT, PrefectApi, connect_to_prefect
from tests.benchmarks.table import Table
from tests.deployed import deploy
from tests.integration.bridging import Bench, event, publish
from tests.servers.postgres_server import PostgresServer
from tests.servers.prefect_database import postgres_database
from tests.servers.prefect_server import PrefectServer
from tests.servers.redis_server import RedisServer
from tests.waiting import eventually

MESSAGES = 400
ROUNDS = 3
CEILING = "bulk create, one client"
# No worker takes the runs here. Marking each as late would take half of the server, after a while,
# from whatever is measured then.
_QUIET = {"PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false"}


async def measure_ceiling() -> float:
    """Runs a second that Prefect's server creates for one client: the median of the rounds."""
    async with _installation() as (api, _):
        return median([await _create_directly(api, clients=1) for _ in range(ROUNDS)])


async def measure_hand_over() -> Table:
    """Hand over no-op jobs from each broker, and create as many runs directly, in turn."""
    table = Table(f"Hand-over `run`, Prefect on PostgreSQL, {MESSAGES:,} messages a round")
    async with _installation() as (api, brokers):
        measures: dict[str, Callable[[], Awaitable[float]]] = {
            CEILING: partial(_create_directly, api, clients=1),
            "bulk create, two clients": partial(_create_directly, api, clients=2),
        }
        for name, broker in brokers.items():
            measures[f"messages from {name}"] = partial(_hand_over, api, broker)
        names = list(measures)
        for number in range(ROUNDS):
            # Each round begins elsewhere, since the server's tables grow meanwhile.
            for name in names[number:] + names[:number]:
                limit = CEILING if name.startswith("messages") else None
                table.add(name, await measures[name](), beside=limit)
    return table


@asynccontextmanager
async def _installation() -> AsyncGenerator[tuple[PrefectApi, dict[str, Broker]]]:
    with (
        TemporaryDirectory() as folder,
        RedisServer() as redis,
        PostgresServer() as postgres,
        PrefectServer(
            database_url=postgres_database(postgres.databases), settings=_QUIET
        ) as prefect,
        prefect.current(),
    ):
        async with connect_to_prefect() as api:
            await deploy(noop)
            yield (
                api,
                {
                    "embedded": EmbeddedBroker(path=Path(folder) / "queue.db"),
                    "Redis": RedisBroker.from_url(redis.url),
                },
            )


async def _create_directly(api: PrefectApi, *, clients: int) -> float:
    """Create runs as the bridge does, from bodies made beforehand."""
    deployment = await api.read_deployment("noop/noop")
    bodies = [
        {
            "name": f"noop-{number}",
            "parameters": {"echo": {"__prefect_kind": "json", "value": "1"}},
            "enforce_parameter_schema": False,
            "idempotency_key": uuid4().hex,
            "labels": {f"noa.label-{label}": "value" for label in range(8)},
            "tags": ["noa", "job:noop", "queue:bench", f"message:{number}"],
            "work_queue_name": "normal",
        }
        for number in range(MESSAGES)
    ]
    chunks = [bodies[start : start + BULK_LIMIT] for start in range(0, MESSAGES, BULK_LIMIT)]

    async def client(number: int) -> None:
        async with connect_to_prefect() as own:
            for chunk in chunks[number::clients]:
                await own.create_runs(deployment.id, chunk)

    began = time.monotonic()
    await asyncio.gather(*(client(number) for number in range(clients)))
    return MESSAGES / (time.monotonic() - began)


async def _hand_over(api: PrefectApi, broker: Broker) -> float:
    """Let a bridge empty a full queue."""
    queue = f"bench-{uuid4().hex[:8]}"
    with TemporaryDirectory() as folder:
        bench = Bench.embedded(Path(folder), queue=queue, jobs=frozenset({"noop"}))
        bench = replace(bench, broker=broker, max_waiting=10**9)
        async with broker.connect() as session:
            await publish(session, queue, *(event(f"{queue}-{i}") for i in range(MESSAGES)))
        began = time.monotonic()
        async with bench.running(api) as bridge:
            await eventually(
                lambda: bridge.tally.handed_over == MESSAGES,
                description="all messages to be handed over",
                timeout=300,
            )
            return MESSAGES / (time.monotonic() - began)
