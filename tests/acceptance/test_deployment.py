"""Deployment: `prefect deploy --all` to any server, and runs by a worker that knows no folder."""

import asyncio
from collections.abc import Generator
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import arun_deployment
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from deployments.apply import read_automations
from noa_flows.jobs.report_job import ReportResult
from noa_flows.jobs.webhook_job import WebhookReceipt
from tests.acceptance.installation import PREFECT, Installation
from tests.project import PROJECT
from tests.servers.postgres_databases import PostgresDatabases
from tests.servers.prefect_database import postgres_database
from tests.servers.prefect_server import PrefectServer

DEPLOYMENTS = {
    "consume-embedded/jobs",
    "consume-rabbitmq/jobs",
    "consume-redis/jobs",
    "consume-sqs/jobs",
    "noop/noop",
    "recover/recover",
    "report/report",
    "webhook/webhook",
}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def installation(
    postgres_databases: PostgresDatabases, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Installation]:
    database = postgres_database(postgres_databases)
    with PrefectServer(database_url=database) as server, server.current():
        yield Installation(server, tmp_path_factory.mktemp("installation"))


@pytest.fixture(scope="module")
def deployed(installation: Installation) -> Installation:
    """An installation on a server that knew nothing, deployed twice."""
    for _ in range(2):
        installation.run(PREFECT, "--no-prompt", "deploy", "--all")
    return installation


@pytest.fixture(scope="module")
def applied(deployed: Installation) -> Installation:
    """The same, after `deployments/apply.py`."""
    deployed.apply()
    return deployed


async def test_everything_is_deployed_to_a_server_that_knew_nothing(deployed: Installation) -> None:
    async with get_client() as client:
        found = await client.read_deployments()
        flows = {flow.id: flow.name for flow in await client.read_flows()}
        pools = {pool.name for pool in await client.read_work_pools()}
        queues = await client.read_work_queues(work_pool_name="noa")
    assert {f"{flows[one.flow_id]}/{one.name}" for one in found} == DEPLOYMENTS
    assert {"noa", "noa-consumers"} <= pools
    priorities = {queue.name: queue.priority for queue in queues}
    assert priorities["high"] < priorities["normal"] < priorities["low"]


async def test_no_deployment_remembers_the_folder_of_whoever_deployed(
    deployed: Installation,
) -> None:
    async with get_client() as client:
        for one in await client.read_deployments():
            assert not one.pull_steps
            assert one.path in {None, "", "."}
            assert str(PROJECT) not in one.model_dump_json()


async def test_it_deploys_from_any_folder(deployed: Installation) -> None:
    project_file = str(PROJECT / "prefect.yaml")
    command = (PREFECT, "--no-prompt", "deploy", "--all", "--prefect-file", project_file)
    printed = deployed.run(*command, folder=deployed.folder)
    assert printed.count("successfully created") == len(DEPLOYMENTS)


async def test_applying_again_makes_nothing_twice(applied: Installation) -> None:
    before = await counts()
    applied.apply()
    assert await counts() == before
    assert before["automations"] == len(read_automations())


async def counts() -> dict[str, int]:
    async with get_client() as client:
        return {
            "automations": len(await client.read_automations()),
            "work pools": len(await client.read_work_pools()),
            "deployments": len(await client.read_deployments()),
        }


async def test_runs_by_a_worker_elsewhere_return_their_results(
    deployed: Installation, httpserver: HTTPServer
) -> None:
    ids: list[str] = []

    def receive(request: Request) -> Response:
        ids.append(request.headers["webhook-id"])
        return Response(status=503 if len(ids) == 1 else 200)

    httpserver.expect_request("/hook", method="POST").respond_with_handler(receive)
    settings = {"NOA_WEBHOOK__ALLOWED_HOSTS": f"127.0.0.1:{httpserver.port}"}
    with deployed.worker("noa", settings=settings):
        report, webhook = await asyncio.gather(
            run("report/report", type="csv", template="monthly-report", data=[{"sold": 3}]),
            run("webhook/webhook", url=httpserver.url_for("/hook"), method="POST", body={"a": 1}),
        )
    report_result = ReportResult.model_validate(await result_of(report))
    assert report_result.path.startswith(str(deployed.folder / "reports"))
    receipt = WebhookReceipt.model_validate(await result_of(webhook))
    assert (receipt.status, ids) == (200, [receipt.delivery_id] * 2)


async def run(name: str, **parameters: Any) -> FlowRun:
    return await arun_deployment(name, parameters=parameters, timeout=120, poll_interval=1)


async def result_of(flow_run: FlowRun) -> Any:
    assert flow_run.state is not None
    assert flow_run.state.is_completed(), flow_run.state
    return await flow_run.state.aresult()


async def test_the_block_types_are_offered_with_their_forms(applied: Installation) -> None:
    async with get_client() as client:
        for slug in ("embedded-broker", "redis-broker", "rabbitmq-broker", "sqs-broker"):
            assert (await client.read_block_type_by_slug(slug)).slug == slug
