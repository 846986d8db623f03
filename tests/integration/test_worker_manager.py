"""Warm workers from Python."""

import asyncio
import threading
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate

from noa_flows.errors import NoaError
from noa_flows.worker import WorkerManager
from tests.jobs import warm_flows
from tests.servers.prefect_server import PrefectServer
from tests.waiting import eventually
from tests.warm_worker import ended, start_run


async def test_workers_start_scale_tell_and_shut_down(
    prefect_api: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name="managed", type="warm"))
        deployment = await client.create_deployment(
            flow_id=await client.create_flow(warm_flows.slow),
            name="managed",
            entrypoint=f"{warm_flows.__name__}.slow",
            work_pool_name="managed",
            pull_steps=[],
        )
    manager, notes = WorkerManager("managed"), tmp_path / "notes"
    notes.touch()
    await asyncio.to_thread(manager.start_workers)
    try:
        with pytest.raises(NoaError, match="running already"):
            manager.start_workers()
        manager.scale_workers(3)
        await eventually(
            lambda: len(manager.get_worker_stats()) == 3,
            description="three processes",
            timeout=20,
        )
        run = await start_run(deployment, notes=str(notes), seconds=2)
        busy = await eventually(
            lambda: [one for one in manager.get_worker_stats() if one["flow_run_id"]],
            description="a busy process",
            timeout=20,
        )
        assert busy[0]["flow_run_id"] == str(run)
        assert busy[0]["memory_mb"] > 10
    finally:
        await asyncio.to_thread(manager.shutdown)

    assert (await ended(run)).state_name == "Completed"
    assert "noa-workers" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(NoaError, match="start_workers"):
        manager.get_worker_stats()


def test_workers_without_a_server_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoaError, match="count = 0"):
        WorkerManager("nowhere").scale_workers(0)
    with pytest.raises(NoaError, match="aren't running"):
        WorkerManager("nowhere").scale_workers(1)
