"""What runs of a warm worker report arrives at Prefect's server: all of it, and once."""

import asyncio
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

from noa_flows.prefect_api import BULK_LIMIT, PrefectApi, connect_to_prefect
from tests.jobs.chatty_flow import EVENT, chatty, line_of
from tests.servers.prefect_server import PrefectServer
from tests.waiting import eventually
from tests.warm_worker import RunningWorker

RUNS = 200
LINES = 5
EVENTS = (EVENT, *(f"prefect.flow-run.{state}" for state in ("Pending", "Running", "Completed")))
#: The most that Prefect's API answers at once; a run has far less to tell.
LOGS_PAGE = 200
EVENTS_PAGE = 50

#: What was told, and by which run.
Told = Counter[tuple[UUID, str]]


@pytest.mark.timeout(900)
async def test_every_line_and_event_of_many_runs_arrives_once(
    prefect_server: PrefectServer, prefect_api: PrefectServer, tmp_path: Path
) -> None:
    with RunningWorker(prefect_server, tmp_path, limit=4) as worker:
        deployment = await worker.deploy(chatty)
        async with connect_to_prefect() as api:
            runs = await create(api, deployment)
            await all_ended(api, deployment)
        # Once it has gone, nothing more can come.
        worker.send(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 60) == 0

    logged = await lines_of(runs)
    expected = Told((run, line_of(run, number)) for run in runs for number in range(LINES))
    assert expected - logged == Told(), "these lines are missing"
    assert logged - expected == Told(), "these lines are more than there should be"

    emitted = await events_of(prefect_server, runs)
    expected = Told((run, event) for run in runs for event in EVENTS)
    assert expected - emitted == Told(), "these events are missing"
    assert emitted - expected == Told(), "these events are more than there should be"


async def create(api: PrefectApi, deployment: UUID) -> Sequence[UUID]:
    bodies = [{"parameters": {"lines": LINES}}] * BULK_LIMIT
    made = [
        item
        for _ in range(0, RUNS, BULK_LIMIT)
        for item in await api.create_runs(str(deployment), bodies)
    ]
    assert len(made) == RUNS
    return [UUID(item.run_id) for item in made]


async def all_ended(api: PrefectApi, deployment: UUID) -> None:
    final = {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}
    wanted = {"deployment_id": {"any_": [str(deployment)]}, "state": final}

    async def ended() -> bool:
        return await api.count_runs(wanted) == RUNS

    await eventually(ended, description="all runs to end", timeout=600, interval=0.5)


async def lines_of(runs: Sequence[UUID]) -> Told:
    """The lines that the flow itself has written to the logs of the runs."""
    found = Told()
    async with get_client() as client:
        for run in runs:
            mine = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
            logs = await client.read_logs(mine, limit=LOGS_PAGE)
            assert len(logs) < LOGS_PAGE
            found.update((run, log.message) for log in logs if log.message.startswith("chat of"))
    return found


async def events_of(server: PrefectServer, runs: Sequence[UUID]) -> Told:
    """The events of the runs that count here; the server writes them seconds after it has them."""
    found = Told()

    async def arrived() -> bool:
        async with httpx.AsyncClient(base_url=server.api_url) as client:
            now = Told([(run, event) for run in runs for event in await _events_of(client, run)])
        found.clear()
        found.update(now)
        return found.total() >= len(runs) * len(EVENTS)

    # Who looks at what was found says which are missing.
    with suppress(AssertionError):
        await eventually(arrived, description="all events", timeout=60, interval=1)
    return found


async def _events_of(client: httpx.AsyncClient, run: UUID) -> Sequence[str]:
    wanted = {"event": {"name": EVENTS}, "resource": {"id": [f"prefect.flow-run.{run}"]}}
    answer = await client.post("/events/filter", json={"filter": wanted, "limit": EVENTS_PAGE})
    page: dict[str, Any] = answer.raise_for_status().json()
    assert page["next_page"] is None
    return [event["event"] for event in page["events"]]
