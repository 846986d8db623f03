"""Recovery: what a dead process leaves behind is noticed, and consumers come back by themselves."""

import json
import logging
import os
import signal
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, Generator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import RRuleSchedule

from blocks.embedded_broker import EmbeddedBroker
from blocks.message import utc_now
from deployments.apply import read_automations, upsert_automation
from noa_flows.prefect_api import PrefectApi, connect_to_prefect
from tests.acceptance.installation import NOA, Installation
from tests.deployed import deploy
from tests.integration.bridging import event, publish
from tests.jobs.slow_job import slow
from tests.servers.postgres_databases import PostgresDatabases
from tests.servers.prefect_database import postgres_database
from tests.servers.prefect_server import PrefectServer
from tests.servers.proxies import BULK_CREATE, ApiProxy
from tests.waiting import eventually

#: Three missed heartbeats of 30 seconds, the automation's patience, and the server's own rhythm.
NOTICED_WITHIN_SECONDS = 120
CONSUMER = "consume-embedded/jobs"

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def installation(
    postgres_databases: PostgresDatabases, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Installation]:
    folder = tmp_path_factory.mktemp("installation")
    database = postgres_database(postgres_databases)
    often = {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1"}
    with PrefectServer(database_url=database, settings=often) as server, server.current():
        installation = Installation(server, folder)
        installation.apply()
        yield installation


@pytest.fixture
async def api(installation: Installation) -> AsyncGenerator[PrefectApi]:
    async with connect_to_prefect() as api:
        # A worker that a test ended took its runs with it, and they would pass for alive a while.
        for run in await runs_of(api, CONSUMER, "RUNNING"):
            await api.force_state(
                run["id"], state_type="CANCELLED", name="Cancelled", message="Its worker has ended."
            )
        yield api


async def runs_of(api: PrefectApi, deployment: str, *states: str) -> list[Mapping[str, Any]]:
    found = await api.read_deployment(deployment)
    return list(
        await api.filter_runs(
            {
                "deployment_id": {"any_": [found.id]},
                "state": {"type": {"any_": list(states)}},
            }
        )
    )


async def one_running(api: PrefectApi, deployment: str) -> Mapping[str, Any]:
    """The only run of a deployment that is running; an error that shows all where it isn't so."""
    running = await runs_of(api, deployment, "RUNNING")
    if len(running) != 1:
        raise AssertionError(await history(api, deployment))
    return running[0]


async def history(api: PrefectApi, deployment: str) -> str:
    """The runs of a deployment that have begun or should have, with their states."""
    found = await api.read_deployment(deployment)
    runs = await api.filter_runs(
        {
            "deployment_id": {"any_": [found.id]},
            "expected_start_time": {"before_": utc_now().isoformat()},
        }
    )
    lines: list[str] = []
    for run in runs:
        states = await api.read_states(run["id"])
        told = ", ".join(f"{one['name']} {one['timestamp'][11:23]}" for one in states)
        lines.append(f"{run['name']} {run['id'][:8]}: {told}; {run['state']['message']}")
    return "\n".join(["", *lines])


async def test_a_run_whose_worker_and_process_died_ends_as_crashed(
    installation: Installation, api: PrefectApi, tmp_path: Path
) -> None:
    await deploy(slow)
    slow_deployment = await api.read_deployment("slow/slow")
    pid_file = tmp_path / "pid"
    with installation.worker("noa") as worker:
        run_id = await api.create_run(
            slow_deployment.id,
            {
                "parameters": {"seconds": 600, "pid_file": str(pid_file)},
                "tags": ["noa", "heartbeat:30s"],
                "job_variables": {"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}},
            },
        )
        await eventually(pid_file.exists, description="the run to begin", timeout=60)
        killed_at = time.monotonic()
        worker.kill()

    async def is_crashed() -> bool:
        (run,) = await api.filter_runs({"id": {"any_": [run_id]}})
        return bool(run["state_type"] == "CRASHED")

    await eventually(
        is_crashed, description="the run to be crashed", timeout=NOTICED_WITHIN_SECONDS, interval=1
    )
    logging.getLogger(__name__).info("noticed after %.0f s", time.monotonic() - killed_at)


async def test_a_run_that_a_dead_worker_had_taken_is_executed_by_another(
    installation: Installation, api: PrefectApi
) -> None:
    automation = next(one for one in read_automations() if "goes back" in one["name"])
    quick = {**automation, "trigger": {**automation["trigger"], "within": 35}}
    await upsert_automation(api, quick)
    noop = await api.read_deployment("noop/noop")
    taken = {"state": {"type": "PENDING", "name": "Pending"}, "tags": ["noa"]}
    run_id = await api.create_run(noop.id, taken)

    async def is_completed() -> bool:
        (run,) = await api.filter_runs({"id": {"any_": [run_id]}})
        return bool(run["state_type"] == "COMPLETED")

    with installation.worker("noa", settings={"NOA_WORKERS__PENDING_SECONDS": "30"}):
        await eventually(is_completed, description="the run to be completed", timeout=150)
    await upsert_automation(api, automation)


async def test_what_nobody_asked_for_passes_over_a_consumer_whose_broker_is_not_configured(
    installation: Installation, api: PrefectApi
) -> None:
    deployment = await api.read_deployment("consume-redis/jobs")
    async with get_client() as client:
        # Once, so that no further consumers take the place of others.
        soon = f"{utc_now() + timedelta(seconds=5):DTSTART:%Y%m%dT%H%M%SZ}"
        once = RRuleSchedule(rrule=f"{soon}\nRRULE:FREQ=DAILY;COUNT=1")
        await client.create_deployment_schedules(UUID(deployment.id), [(once, True)])
        # As the automation makes one whose predecessor has crashed.
        made = await client.request(
            "POST",
            "/deployments/{id}/create_flow_run",
            path_params={"id": deployment.id},
            json={},
            headers={
                "Prefect-Automation-ID": str(uuid4()),
                "Prefect-Automation-Name": b64encode(b"an automation").decode(),
            },
        )

        async def passed_over() -> bool:
            runs = await runs_of(api, deployment.name, "COMPLETED")
            ended = {run["id"]: run["auto_scheduled"] for run in runs if is_not_configured(run)}
            return any(ended.values()) and made.json()["id"] in ended

        with installation.worker("noa-consumers"):
            await eventually(passed_over, description="runs that were passed over", timeout=90)


def is_not_configured(run: Mapping[str, Any]) -> bool:
    return bool(run["state_name"] == "NotConfigured")


async def test_a_consumer_comes_back_after_a_crash_of_its_process(
    installation: Installation, api: PrefectApi
) -> None:
    deployment = await api.read_deployment(CONSUMER)
    with installation.worker("noa-consumers"):
        await api.create_run(deployment.id, {"name": "to-be-killed"})
        first = await eventually(
            lambda: one_running(api, CONSUMER), description="the consumer", timeout=60
        )
        os.kill(consumer_pid(str(first["id"])), signal.SIGKILL)

        async def successor() -> Mapping[str, Any] | None:
            running = await one_running(api, CONSUMER)
            return running if running["id"] != first["id"] else None

        await eventually(successor, description="its successor", timeout=90)
        await message_becomes_a_run(installation, api)


async def test_a_consumer_that_is_told_to_stop_gives_back_what_it_holds(
    installation: Installation, api: PrefectApi
) -> None:
    broker = EmbeddedBroker(path=installation.folder / "queue.db")
    with ApiProxy(installation.server.api_url) as proxy:
        proxy.delay(60, BULK_CREATE)
        through_proxy = {"PREFECT_API_URL": proxy.api_url}
        with installation.worker("noa-consumers", settings=through_proxy):
            await api.create_run(
                (await api.read_deployment(CONSUMER)).id, {"name": "to-be-stopped"}
            )
            consumer = await eventually(
                lambda: one_running(api, CONSUMER), description="the consumer", timeout=60
            )
            async with broker.connect() as session:
                await publish(session, "jobs", *(event(f"stop-{number}") for number in range(3)))

                async def held() -> int:
                    return (await session.depth("jobs")).in_flight

                await eventually(held, description="the messages' intake", timeout=30)
                os.kill(consumer_pid(str(consumer["id"])), signal.SIGTERM)

                async def given_back() -> bool:
                    depth = await session.depth("jobs")
                    return (depth.ready, depth.in_flight) == (3, 0)

                # Well within the lease, whose end would bring them back anyway.
                await eventually(given_back, description="their return", timeout=10)


async def test_a_second_consumer_leaves_the_work_to_the_first(
    installation: Installation, api: PrefectApi
) -> None:
    deployment = await api.read_deployment(CONSUMER)
    with installation.worker("noa-consumers"):
        await api.create_run(deployment.id, {"name": "first"})
        await eventually(lambda: one_running(api, CONSUMER), description="a consumer", timeout=90)
        second = await api.create_run(deployment.id, {"name": "second"})

        async def has_left() -> bool:
            (run,) = await api.filter_runs({"id": {"any_": [second]}})
            return bool(run["state_type"] == "COMPLETED")

        await eventually(has_left, description="the second to leave", timeout=60)


async def test_a_consumer_goes_on_after_the_server_was_killed(
    installation: Installation, api: PrefectApi
) -> None:
    deployment = await api.read_deployment(CONSUMER)
    with installation.worker("noa-consumers"):
        await api.create_run(deployment.id, {"name": "before-the-kill"})
        await eventually(lambda: one_running(api, CONSUMER), description="a consumer", timeout=90)
        installation.server.kill()
        installation.server.start()
        await message_becomes_a_run(installation, api)


async def message_becomes_a_run(installation: Installation, api: PrefectApi) -> None:
    job_id = installation.run(NOA, "publish", "noop", "--data", json.dumps({"echo": 1})).strip()

    async def has_a_run() -> bool:
        return len(await api.filter_runs({"tags": {"all_": [f"message:{job_id}"]}})) == 1

    await eventually(has_a_run, description="the message's run", timeout=60)


def consumer_pid(run_id: str) -> int:
    """Find the process that executes a flow run, by the id in its environment."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if f"PREFECT__FLOW_RUN_ID={run_id}".encode() in environment:
            return int(entry.name)
    raise AssertionError(f"no process executes {run_id}")
