"""Runs that a dead worker has left in the middle leave that state, events or none."""

from datetime import timedelta

import pytest

from blocks.message import utc_now
from noa_flows.jobs.noop_job import noop
from noa_flows.prefect_api import PrefectApi, connect_to_prefect
from noa_flows.recovery.stuck import release_the_stuck
from noa_flows.settings import WorkerSettings
from tests.deployed import deploy
from tests.servers.prefect_server import PrefectServer


async def left_in(api: PrefectApi, state_type: str, name: str) -> str:
    deployment = await api.read_deployment("noop/noop")
    return await api.create_run(
        deployment.id,
        {"state": {"type": state_type, "name": name}, "tags": ["noa", "heartbeat:30s"]},
    )


@pytest.mark.parametrize(
    ("state_type", "name", "minutes", "then"),
    [
        ("PENDING", "Pending", 10, "Scheduled"),
        ("PENDING", "Submitting", 10, "Scheduled"),
        ("CANCELLING", "Cancelling", 3, "Cancelled"),
        ("RUNNING", "Running", 5, "Crashed"),
        ("RUNNING", "Retrying", 5, "Crashed"),
    ],
)
async def test_a_run_leaves_a_state_that_its_worker_has_left_it_in(
    prefect_api: PrefectServer, state_type: str, name: str, minutes: int, then: str
) -> None:
    await deploy(noop)
    async with connect_to_prefect() as api:
        run_id = await left_in(api, state_type, name)

        async def state_after(passed: timedelta) -> str:
            await release_the_stuck(api, WorkerSettings(), now=utc_now() + passed)
            (run,) = await api.filter_runs({"id": {"any_": [run_id]}})
            return str(run["state_name"])

        patience = timedelta(minutes=minutes)
        assert await state_after(patience - timedelta(seconds=30)) == name
        assert await state_after(patience + timedelta(seconds=1)) == then
