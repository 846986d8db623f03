"""Nothing in a message is evaluated or loaded by Prefect: it arrives verbatim, or is refused.

Prefect's server renders templates and reads variables where parameters hold `__prefect_kind`, its
engine loads a block for a `$ref`, and its reader of results makes objects of `__class__`.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.deployments import run_deployment
from prefect.flow_engine import run_flow
from prefect.settings import get_current_settings
from prefect.variables import Variable
from pydantic import SecretStr

from blocks.message import Message
from noa_flows.jobs.noop_job import noop
from noa_flows.jobs.webhook_job import webhook
from noa_flows.labels import DATAREF
from noa_flows.prefect_api import PrefectApi, connect_to_prefect
from noa_flows.settings import get_settings
from tests.acceptance.hostile_values import KINDS, VARIABLE, hostile_values, placements
from tests.deployed import deploy
from tests.handing_over import Aftermath, hand_over, publish
from tests.integration.bridging import Bench, event
from tests.project import PROJECT
from tests.servers.prefect_server import PrefectServer
from tests.waiting import eventually

pytestmark = pytest.mark.servers


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """What must never show: a variable's value and a block's, saved on the server."""

    variable: str
    block: str
    block_document_id: str

    def show_in(self, text: str) -> bool:
        return self.variable in text or self.block in text


@pytest.fixture
async def secrets(prefect_api: PrefectServer) -> Secrets:
    variable, block = f"variable-{uuid4().hex}", f"block-{uuid4().hex}"
    await Variable.aset(VARIABLE, variable, overwrite=True)
    document = await Secret(value=SecretStr(block)).asave("hostile", overwrite=True)
    return Secrets(variable=variable, block=block, block_document_id=str(document))


@pytest.fixture
async def api(prefect_api: PrefectServer) -> AsyncGenerator[PrefectApi]:
    async with connect_to_prefect() as api:
        await deploy(noop, webhook)
        yield api


@pytest.fixture
async def client(prefect_api: PrefectServer) -> AsyncGenerator[PrefectClient]:
    async with get_client() as client:
        yield client


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench.embedded(
        tmp_path, queue=f"injection-{uuid4().hex[:8]}", jobs=frozenset({"noop", "webhook"})
    )
    # The runs of this process look for large payloads where the bridge has put them.
    monkeypatch.setenv("NOA_STORAGE", str(bench.settings.storage))
    get_settings.cache_clear()
    return bench


@pytest.fixture
def hostile(secrets: Secrets) -> Mapping[str, Any]:
    """Message id → a value in one of its places."""
    values = hostile_values(secrets.block_document_id).values()
    placed = [one for value in values for one in placements(value)]
    return {f"m{number:03}": value for number, value in enumerate(placed)}


async def hand_over_echoes(bench: Bench, api: PrefectApi, echoes: Mapping[str, Any]) -> Aftermath:
    messages = [
        Message(body=json.dumps(event(message_id, {"echo": echo})).encode())
        for message_id, echo in echoes.items()
    ]
    async with bench.broker.connect() as session:
        await publish(session, bench.route.queue, messages)
        return await hand_over(bench, api, session)


async def execute(client: PrefectClient, run_id: str) -> Any:
    """Run a flow run in this process, by Prefect's engine, and return what it echoes."""
    flow_run = await client.read_flow_run(UUID(run_id))
    await cast("Any", run_flow(noop, flow_run=flow_run, return_type="state"))
    return await echo_of(client, run_id)


async def execute_apart(run_id: str) -> None:
    """Run a flow run in a process of its own, by the command that Prefect's workers use."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "prefect.engine"),
        cwd=PROJECT,
        env={**os.environ, "PREFECT__FLOW_RUN_ID": run_id},
    )
    assert await process.wait() == 0


async def echo_of(client: PrefectClient, run_id: str) -> Any:
    """Read a run's result from where it is stored, as any other process does."""
    state = (await client.read_flow_run(UUID(run_id))).state
    assert state is not None
    result: Any = await state.aresult()
    assert isinstance(result, dict), f"{result!r} was made into an object"
    return cast("dict[str, Any]", result)["echo"]


async def test_every_kind_and_reference_arrives_in_the_job_verbatim(
    api: PrefectApi,
    client: PrefectClient,
    bench: Bench,
    hostile: Mapping[str, Any],
    secrets: Secrets,
) -> None:
    assert set(KINDS) >= {"none", "json", "jinja", "workspace_variable"}
    after = await hand_over_echoes(bench, api, hostile)
    assert (after.dead, after.tally.handed_over) == ({}, len(hostile))
    parameters = {name: run["parameters"] for name, run in after.runs.items()}
    assert parameters == {f"noop-{name}": {"echo": echo} for name, echo in hostile.items()}
    assert not secrets.show_in(json.dumps(list(after.runs.values())))
    # Kinds are the server's business. These are the engine's and the reader's, so they are run.
    for name, echo in hostile.items():
        if isinstance(echo, dict) and echo.keys() & {"$ref", "__class__", "__exc_type__"}:
            assert await execute(client, after.runs[f"noop-{name}"]["id"]) == echo


async def test_all_of_them_arrive_in_a_process_of_their_own_and_nothing_shows_in_its_logs(
    api: PrefectApi,
    client: PrefectClient,
    bench: Bench,
    hostile: Mapping[str, Any],
    secrets: Secrets,
) -> None:
    everything = list(hostile.values())
    (run,) = (await hand_over_echoes(bench, api, {"all": everything})).runs.values()
    await execute_apart(run["id"])
    assert await echo_of(client, run["id"]) == everything

    async def logged() -> str:
        of_the_run = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[UUID(run["id"])]))
        text = "\n".join(log.message for log in await client.read_logs(of_the_run))
        return text if "Completed" in text else ""

    assert not secrets.show_in(await eventually(logged, description="the run's logs"))
    for file in get_current_settings().results.local_storage_path.rglob("*"):
        assert not (file.is_file() and secrets.show_in(file.read_text())), file


async def test_a_payload_by_reference_arrives_verbatim_too(
    api: PrefectApi, client: PrefectClient, bench: Bench, hostile: Mapping[str, Any]
) -> None:
    echo = [*hostile.values(), "x" * 500_000]
    (run,) = (await hand_over_echoes(bench, api, {"large": echo})).runs.values()
    assert run["parameters"] == {}
    assert DATAREF in run["labels"]
    assert await execute(client, run["id"]) == echo


async def test_a_kind_in_the_place_of_a_payload_or_of_a_typed_field_is_refused(
    api: PrefectApi, bench: Bench, secrets: Secrets
) -> None:
    reference = {"$ref": {"block_document_id": secrets.block_document_id}}
    variable = {"__prefect_kind": "workspace_variable", "variable_name": VARIABLE}
    valid = {"url": "https://hooks.example/x", "method": "POST"}
    refused = {
        "data.__prefect_kind": event("top", variable),
        "data.$ref": event("reference", reference),
        "data.echo.__prefect_kind": {"type": "noop", "data": {"echo.__prefect_kind": "json"}},
        "data.url": {"type": "webhook", "data": {**valid, "url": variable}},
        "data.headers.x": {"type": "webhook", "data": {**valid, "headers": {"x": variable}}},
        "data.signature.key": {
            "type": "webhook",
            "data": {**valid, "signature": {"key": reference, "algorithm": "sha256"}},
        },
        "id": event("", {}) | {"id": variable},
        "subject": event("subject", {}, subject=variable),
    }
    async with bench.broker.connect() as session:
        messages = [Message(body=json.dumps(body).encode()) for body in refused.values()]
        ids = await publish(session, bench.route.queue, messages)
        after = await hand_over(bench, api, session)
    assert after.runs == {}
    for path, message_id in zip(refused, ids, strict=True):
        letter = after.dead[message_id]
        assert (letter.reason, letter.error.startswith(f"{path}: ")) == ("schema", True), letter


async def test_an_attribute_is_no_template_either(
    api: PrefectApi, client: PrefectClient, bench: Bench, secrets: Secrets
) -> None:
    template = f"{{{{ prefect.variables.{VARIABLE} }}}}"
    attributes = {"subject": template, "tenant": template, "traceparent": template}
    message = Message(body=json.dumps(event("m", {}, **attributes)).encode())
    async with bench.broker.connect() as session:
        await publish(session, bench.route.queue, [message])
        (run,) = (await hand_over(bench, api, session)).runs.values()
    assert run["name"] == f"noop-{template}"
    assert f"tenant:{template}" in run["tags"]
    await execute(client, run["id"])
    assert not secrets.show_in((await client.read_flow_run(UUID(run["id"]))).model_dump_json())


@pytest.mark.usefixtures("api")
async def test_a_nested_reference_that_an_operator_gives_is_data_too(
    client: PrefectClient, secrets: Secrets
) -> None:
    """`run_deployment` evaluates kinds, as an operator may want; blocks are never loaded."""
    echo = [{"$ref": {"block_document_id": secrets.block_document_id}}, {"$ref": "nonsense"}]
    flow_run = await cast(
        "Any", run_deployment("noop/noop", parameters={"echo": {"deep": echo}}, timeout=0)
    )
    assert await execute(client, str(flow_run.id)) == {"deep": echo}
