"""What becomes of a message whose run is killed in the middle, as its job declares."""

import json
import os
import signal
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from noa_flows.consumers.embedded_consumer import consume_embedded
from noa_flows.labels import DELIVERY_ID
from noa_flows.prefect_api import PrefectApi, connect_to_prefect
from tests.acceptance.installation import NOA, Installation
from tests.deployed import deploy
from tests.jobs.struck_jobs import struck_dead, struck_rerun
from tests.servers.postgres_databases import PostgresDatabases
from tests.servers.prefect_database import postgres_database
from tests.servers.prefect_server import PrefectServer
from tests.waiting import eventually

QUEUE = "struck"
JOBS = {
    "struck-rerun": "tests.jobs.struck_jobs:struck_rerun",
    "struck-dead": "tests.jobs.struck_jobs:struck_dead",
}
#: Executed again once: less waiting than for the default.
SETTINGS = {"NOA_JOBS": json.dumps(JOBS), "NOA_WORKERS__MAX_INTERRUPTIONS": "1"}

pytestmark = pytest.mark.timeout(400)


class TestInstallation(Installation):
    """With the two jobs."""

    __test__ = False

    @property
    def settings(self) -> Mapping[str, str]:
        return {**super().settings, **SETTINGS}


@pytest.fixture(scope="module")
def installation(
    postgres_databases: PostgresDatabases, tmp_path_factory: pytest.TempPathFactory
) -> Generator[TestInstallation]:
    folder = tmp_path_factory.mktemp("installation")
    database = postgres_database(postgres_databases)
    with PrefectServer(database_url=database) as server, server.current():
        installation = TestInstallation(server, folder)
        installation.apply()
        with installation.worker("noa", limit=6):
            yield installation


@pytest.fixture
async def api(installation: TestInstallation) -> AsyncGenerator[PrefectApi]:
    async with connect_to_prefect() as api:
        yield api


@pytest.fixture
async def consumer(installation: TestInstallation, api: PrefectApi) -> None:
    """A consumer of the queue, as any flow run in the worker that is there."""
    await deploy(struck_rerun, struck_dead)
    await deploy(consume_embedded, name=QUEUE)
    deployment = await api.read_deployment(f"consume-embedded/{QUEUE}")
    body = {"parameters": {"queue": QUEUE, "jobs": sorted(JOBS)}, "idempotency_key": "consumer"}
    await api.create_run(deployment.id, body)


class Message:
    """A message of one of the two jobs, and what can be seen of it."""

    def __init__(
        self, installation: TestInstallation, api: PrefectApi, job: str, folder: Path
    ) -> None:
        self._installation, self._api = installation, api
        self._ledger = folder / f"{job}.ledger"
        payload = json.dumps({"path": str(self._ledger), "seconds": 3})
        self.id = installation.run(NOA, "publish", job, "--queue", QUEUE, "--data", payload).strip()

    def entries(self, what: str) -> Sequence[Sequence[str]]:
        """What the executions entered: begin or end, delivery id, run id, process id, time."""
        lines = self._ledger.read_text().splitlines() if self._ledger.exists() else []
        return [line.split() for line in lines if line.startswith(what)]

    async def begun(self, times: int) -> int:
        """Wait until it has begun so often, and return the last process."""
        await eventually(
            lambda: len(self.entries("begin")) >= times, description="it to begin", timeout=90
        )
        return int(self.entries("begin")[times - 1][3])

    async def runs(self) -> Sequence[Mapping[str, Any]]:
        return await self._api.filter_runs({"tags": {"all_": [f"message:{self.id}"]}})

    async def in_state(self, name: str) -> Mapping[str, Any]:
        async def found() -> Mapping[str, Any] | None:
            return next((run for run in await self.runs() if run["state_name"] == name), None)

        return await eventually(found, description=f"a run to be {name}", timeout=90)

    async def dead_letters(self) -> Sequence[Mapping[str, Any]]:
        """Wait for its dead letters."""

        def found() -> Sequence[Mapping[str, Any]]:
            letters = self._installation.run(NOA, "dead", "list", "--queue", QUEUE, "--json")
            return [letter for letter in json.loads(letters) if self.id in letter.values()]

        return await eventually(found, description="its dead letter", timeout=60, interval=1)


@pytest.mark.usefixtures("consumer")
async def test_a_job_may_be_executed_again(
    installation: TestInstallation, api: PrefectApi, tmp_path: Path
) -> None:
    message = Message(installation, api, "struck-rerun", tmp_path)
    os.kill(await message.begun(1), signal.SIGKILL)

    completed = await message.in_state("Completed")
    assert len(await message.runs()) == 1
    assert len(message.entries("begin")) == 2
    assert len(message.entries("end")) == 1
    identities = {entry[1] for entry in [*message.entries("begin"), *message.entries("end")]}
    assert identities == {completed["labels"][DELIVERY_ID]}


@pytest.mark.usefixtures("consumer")
async def test_a_job_that_is_interrupted_too_often_is_dead_lettered(
    installation: TestInstallation, api: PrefectApi, tmp_path: Path
) -> None:
    message = Message(installation, api, "struck-rerun", tmp_path)
    for times in (1, 2):
        os.kill(await message.begun(times), signal.SIGKILL)

    run = await message.in_state("Interrupted")
    assert run["state_type"] == "CRASHED"
    (letter,) = await message.dead_letters()
    assert letter["reason"] == "interrupted"
    assert len(message.entries("begin")) == 2


@pytest.mark.usefixtures("consumer")
async def test_a_job_that_must_not_begin_twice_is_dead_lettered_until_somebody_redrives_it(
    installation: TestInstallation, api: PrefectApi, tmp_path: Path
) -> None:
    message = Message(installation, api, "struck-dead", tmp_path)
    os.kill(await message.begun(1), signal.SIGKILL)

    interrupted = await message.in_state("Interrupted")
    (letter,) = await message.dead_letters()
    assert letter["reason"] == "interrupted"
    assert letter["run_id"] == interrupted["id"]
    assert len(message.entries("begin")) == 1

    installation.run(NOA, "dead", "redrive", message.id, "--queue", QUEUE)
    completed = await message.in_state("Completed")
    assert completed["id"] != interrupted["id"]
    assert {entry[1] for entry in message.entries("begin")} == {completed["labels"][DELIVERY_ID]}
    assert completed["labels"][DELIVERY_ID] == interrupted["labels"][DELIVERY_ID]


@pytest.mark.usefixtures("consumer")
async def test_recoveries_at_the_same_time_dead_letter_a_message_once(
    installation: TestInstallation, api: PrefectApi, tmp_path: Path
) -> None:
    recover = await api.read_deployment("recover/recover")
    message = Message(installation, api, "struck-dead", tmp_path)
    os.kill(await message.begun(1), signal.SIGKILL)

    async def has_crashed() -> bool:
        return any(run["state_type"] == "CRASHED" for run in await message.runs())

    await eventually(has_crashed, description="the run to crash", timeout=60)
    ids = [await api.create_run(recover.id, {"name": f"beside-{number}"}) for number in range(4)]

    async def all_ended() -> bool:
        runs = await api.filter_runs({"id": {"any_": ids}})
        return {run["state_type"] for run in runs} == {"COMPLETED"}

    await eventually(all_ended, description="the recoveries to end", timeout=90)
    await message.in_state("Interrupted")
    assert len(await message.dead_letters()) == 1
    (run,) = await message.runs()
    names = [state["name"] for state in await api.read_states(run["id"])]
    assert names.count("Interrupted") == 1
