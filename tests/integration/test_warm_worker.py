"""The warm worker, as users of Prefect use any worker."""

import asyncio
import operator
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.deployments import arun_deployment
from prefect.flows import Flow
from prefect.states import Cancelling, Pending, Running, Scheduled, Suspended

from tests.jobs import warm_flows
from tests.project import PROJECT
from tests.servers.postgres_databases import PostgresDatabases
from tests.servers.prefect_database import postgres_database
from tests.servers.prefect_server import PrefectServer
from tests.servers.proxies import ApiProxy
from tests.waiting import eventually, wait_until
from tests.warm_worker import RunningWorker, ended, in_state, read_run, start_run


@pytest.fixture(scope="module")
def worker(
    prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningWorker]:
    with (
        prefect_server.current(),
        RunningWorker(
            prefect_server,
            tmp_path_factory.mktemp("worker"),
            settings={"NOA_WORKERS__LABEL_RUNS": "true"},
        ) as worker,
    ):
        yield worker


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    path = tmp_path / "notes"
    path.touch()
    return path


# A server and a worker may have to start first, on a machine that others use, too.
pytestmark = pytest.mark.timeout(400)

NAME_OF = operator.attrgetter("name")


def lines(notes: Path) -> list[str]:
    return notes.read_text().splitlines()


def state_and_parent(process: int) -> tuple[str, int]:
    try:
        state, parent = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[:2]
    except FileNotFoundError:
        return "gone", 0
    return state, int(parent)


async def begun(notes: Path) -> int:
    """Wait until a flow has begun, and return the id of its process."""
    said = await asyncio.to_thread(
        wait_until,
        lambda: [line for line in lines(notes) if line.startswith("begins")],
        description="a flow to begin",
        timeout=30,
    )
    return int(said[0].split()[1])


async def result_of(worker: RunningWorker, flow: Flow[..., Any], **parameters: Any) -> Any:
    run = await ended(await start_run(await worker.deploy(flow), **parameters))
    assert run.state is not None
    assert run.state.is_completed(), run.state
    return await run.state.result()


async def test_a_late_answer_to_a_poll_does_not_start_a_run_again(
    prefect_server: PrefectServer, tmp_path: Path, notes: Path
) -> None:
    """Prefect would let a completed run that persists no result begin once more."""
    with (
        prefect_server.current(),
        ApiProxy(prefect_server.api_url) as proxy,
        RunningWorker(
            prefect_server,
            tmp_path,
            settings={"PREFECT_API_URL": proxy.api_url, "PREFECT_WORKER_QUERY_SECONDS": "0.5"},
        ) as worker,
    ):
        deployment = await worker.deploy(warm_flows.stepwise)
        proxy.delay_answer(2, f"POST /work_pools/{worker.pool}/get_scheduled_flow_runs")
        for _ in range(5):
            await ended(await start_run(deployment, notes=str(notes), steps=0))
            # Both of the worker's ways to look for work have had an answer since.
            await asyncio.sleep(3)
        proxy.heal()
    assert len([line for line in lines(notes) if line.startswith("begins")]) == 5


async def test_workers_of_one_pool_execute_each_run_once(
    prefect_server: PrefectServer, tmp_path: Path, notes: Path
) -> None:
    """What one has polled, and can't begin yet, another may have completed meanwhile."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    with (
        prefect_server.current(),
        RunningWorker(prefect_server, folders[0], limit=1) as worker,
        RunningWorker(prefect_server, folders[1], limit=1, pool=worker.pool),
    ):
        deployment = await worker.deploy(warm_flows.stepwise)
        runs = [await start_run(deployment, notes=str(notes), steps=0) for _ in range(30)]
        for run in runs:
            await ended(run, within=120)
        # Longer than a worker keeps what it has polled.
        await asyncio.sleep(5)
    assert len([line for line in lines(notes) if line.startswith("begins")]) == len(runs)


#: What goes on while a run runs.
PASSING = {"updated", "estimated_run_time", "estimated_start_time_delta", "total_run_time"}


async def test_a_run_knows_itself_as_the_server_does(worker: RunningWorker) -> None:
    known, asked = await result_of(worker, warm_flows.itself)

    same = (known.keys() & asked.keys()) - PASSING
    for of in (known, asked):
        of["state"] = {name: of["state"][name] for name in ("id", "type", "name", "timestamp")}
    assert {name: known[name] for name in same} == {name: asked[name] for name in same}
    assert {"run_count", "start_time", "infrastructure_pid", "flow_version", "labels"} <= same


async def states_of(run: UUID) -> list[str]:
    async with get_client() as client:
        return [state.name or "" for state in await client.read_flow_run_states(run)]


async def messages_of(run: UUID) -> list[str]:
    """The lines of a run's log that Prefect's server has by now."""
    mine = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
    found: list[str] = []
    async with get_client() as client:
        while page := await client.read_logs(mine, offset=len(found)):
            found += [log.message for log in page]
    return found


async def cancel(run: UUID) -> None:
    async with get_client() as client:
        await client.set_flow_run_state(run, Cancelling())


async def test_a_run_completes_and_its_result_can_be_read(worker: RunningWorker) -> None:
    deployment = await worker.deploy(warm_flows.doubled)

    run = await arun_deployment(
        deployment, parameters={"number": 21}, timeout=30, poll_interval=0.1
    )

    assert run.state is not None
    assert await run.state.result() == 42
    assert await states_of(run.id) == ["Scheduled", "Pending", "Running", "Completed"]


async def test_a_run_carries_what_prefect_writes_down_of_it(worker: RunningWorker) -> None:
    run = await ended(await start_run(await worker.deploy(warm_flows.doubled), number=1))

    assert run.flow_version == warm_flows.doubled.version
    assert run.infrastructure_pid is not None
    assert int(run.infrastructure_pid) > 1
    assert run.labels["prefect.worker.type"] == "warm"
    assert run.labels["prefect.work-pool.name"] == worker.pool
    assert run.run_count == 1


async def test_every_line_of_the_log_arrives(worker: RunningWorker) -> None:
    run = await ended(await start_run(await worker.deploy(warm_flows.told), lines=300))

    expected = {f"line {number}" for number in range(300)}

    async def arrived() -> bool:
        return expected <= set(await messages_of(run.id))

    await eventually(arrived, description="all lines")


async def test_a_failed_flow_is_retried_as_it_says(worker: RunningWorker, notes: Path) -> None:
    deployment = await worker.deploy(warm_flows.third_time_lucky)

    run = await ended(await start_run(deployment, notes=str(notes)))

    assert run.state_name == "Completed"
    assert run.run_count == 3
    assert run.empirical_policy.retries == 2


async def test_a_run_beats(
    worker: RunningWorker, notes: Path, prefect_server: PrefectServer
) -> None:
    deployment = await worker.deploy(warm_flows.slow)
    run = await ended(await start_run(deployment, notes=str(notes), seconds=0.5))

    wanted = {
        "occurred": {"since": "2020-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"},
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run.id}"]},
    }

    async def beats() -> list[dict[str, Any]]:
        async with httpx.AsyncClient(base_url=prefect_server.api_url) as client:
            found = await client.post("/events/filter", json={"filter": wanted})
        return list(found.json()["events"])

    first = (await eventually(beats, description="a heartbeat"))[0]
    related = {
        (one["prefect.resource.role"], one.get("prefect.resource.name")) for one in first["related"]
    }
    assert {("work-pool", worker.pool), ("work-queue", "default"), ("flow", "slow")} <= related


async def test_a_run_can_be_suspended_from_outside_and_resumed(
    worker: RunningWorker, notes: Path
) -> None:
    deployment = await worker.deploy(warm_flows.stepwise)
    run = await start_run(deployment, notes=str(notes), steps=8)
    process = await begun(notes)

    async with get_client() as client:
        await client.set_flow_run_state(run, Suspended(timeout_seconds=100))
    await eventually(
        lambda: state_and_parent(process)[0] in {"Z", "gone"},
        description="the suspended run's process to end",
        timeout=20,
    )
    assert "ends" not in lines(notes)
    assert (await read_run(run)).state_name == "Suspended"

    async with get_client() as client:
        await client.resume_flow_run(run)
    assert (await ended(run)).state_name == "Completed"
    assert len([line for line in lines(notes) if line.startswith("begins")]) == 2


@pytest.mark.parametrize("flow", [warm_flows.slow, warm_flows.slow_async], ids=NAME_OF)
async def test_a_run_can_be_cancelled(
    worker: RunningWorker, notes: Path, flow: Flow[..., Any]
) -> None:
    run = await start_run(await worker.deploy(flow), notes=str(notes))
    process = await begun(notes)

    await cancel(run)

    assert (await ended(run)).state_name == "Cancelled"
    hooks = [line.split() for line in lines(notes) if line.startswith("hook")]
    assert [state for _, state, _ in hooks] == ["Cancelling"]
    assert int(hooks[0][2]) not in {process, worker.pid}


@pytest.mark.parametrize("flow", [warm_flows.slow, warm_flows.slow_async], ids=NAME_OF)
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM], ids=NAME_OF)
async def test_a_run_whose_process_is_killed_has_crashed(
    worker: RunningWorker, notes: Path, flow: Flow[..., Any], sign: signal.Signals
) -> None:
    run = await start_run(await worker.deploy(flow), notes=str(notes))
    process = await begun(notes)

    os.kill(process, sign)

    assert (await ended(run)).state_name == "Crashed"
    await asyncio.to_thread(
        wait_until,
        lambda: [line for line in lines(notes) if line.startswith("hook")],
        description="the hook",
        timeout=20,
    )
    assert len([line for line in lines(notes) if line.startswith("hook Crashed")]) == 1


@pytest.mark.parametrize("moment", [0.0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5])
async def test_a_cancellation_at_any_moment_ends_the_run(
    worker: RunningWorker, notes: Path, moment: float
) -> None:
    run = await start_run(await worker.deploy(warm_flows.slow), notes=str(notes), seconds=100)
    await asyncio.sleep(moment)

    await cancel(run)

    assert (await ended(run)).state_name == "Cancelled"
    await asyncio.sleep(0.5)
    assert (await read_run(run)).state_name == "Cancelled"


async def test_a_cancellation_that_is_undone_by_the_start_at_the_same_moment_holds(
    worker: RunningWorker,
) -> None:
    """Of two requests at the same time, Prefect's server may let the second undo the first."""
    entrypoint = "tests.jobs.slow_to_import.slow_to_import"
    run = await start_run(await worker.deploy(warm_flows.leaking, entrypoint=entrypoint))
    await in_state(run, "Pending")
    await asyncio.sleep(1)
    async with get_client() as client:
        await client.set_flow_run_state(run, Cancelling())
        await client.set_flow_run_state(run, Running(), force=True)

    assert (await ended(run)).state_name == "Cancelled"


async def test_nothing_of_a_run_is_left_for_the_next(worker: RunningWorker) -> None:
    deployment = await worker.deploy(warm_flows.leaking)
    seen: list[Mapping[str, Any]] = []
    for _ in range(3):
        run = await ended(await start_run(deployment))
        assert run.state is not None
        seen.append(await run.state.result())

    folders = {str(one["folder"]) for one in seen}
    assert len(folders) == 3
    # The run is Completed a moment before its process ends, and its folder goes with that.
    await eventually(
        lambda: not any(map(os.path.exists, folders)), description="the folders to be removed"
    )
    assert [{**one, "folder": ""} for one in seen] == [
        {
            "folder": "",
            "variable": None,
            "signal": True,
            "level": seen[0]["level"],
            "handlers": seen[0]["handlers"],
            "context": "clean",
            "path": False,
            "module": False,
        }
    ] * 3


async def test_runs_draw_different_random_numbers(worker: RunningWorker) -> None:
    drawn = [(await result_of(worker, warm_flows.surroundings))["random"] for _ in range(3)]
    assert len(set(drawn)) == 3


async def test_job_variables_reach_the_run(worker: RunningWorker, tmp_path: Path) -> None:
    variables = {"env": {"NOA_COLOUR": "blue", "PREFECT_LOGGING_LEVEL": "DEBUG"}}
    deployment = await worker.deploy(
        warm_flows.surroundings, job_variables={**variables, "working_dir": str(tmp_path)}
    )
    run = await ended(await start_run(deployment))

    assert run.state is not None
    seen = await run.state.result()
    assert seen["environment"]["NOA_COLOUR"] == "blue"
    assert seen["environment"]["PREFECT_LOGGING_LEVEL"] == "DEBUG"
    assert seen["folder"] == str(tmp_path)


async def test_what_an_interpreter_reads_when_it_starts_gets_an_interpreter(
    worker: RunningWorker, tmp_path: Path
) -> None:
    python_path = os.pathsep.join([str(tmp_path), str(PROJECT)])
    deployment = await worker.deploy(
        warm_flows.surroundings, job_variables={"env": {"PYTHONPATH": python_path}}
    )
    run = await ended(await start_run(deployment))

    assert run.state is not None
    assert str(tmp_path) in (await run.state.result())["python_path"]


async def test_the_code_of_a_deployment_is_read_anew_for_each_run(
    worker: RunningWorker, tmp_path: Path
) -> None:
    """And two deployments with a module of the same name don't see each other's."""
    code = "from prefect import flow\n@flow(persist_result=True)\ndef work(): return {!r}\n"
    folders = [tmp_path / "one", tmp_path / "other"]
    deployments: list[UUID] = []
    for folder in folders:
        folder.mkdir()
        (folder / "same_name.py").write_text(code.format(folder.name))
        step = {"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}
        deployments.append(
            await worker.deploy(
                warm_flows.leaking, entrypoint="same_name.py:work", pull_steps=[step]
            )
        )

    async def results() -> list[str]:
        runs = [await ended(await start_run(deployment)) for deployment in deployments]
        return [await run.state.result() for run in runs if run.state is not None]

    assert await results() == ["one", "other"]
    (folders[0] / "same_name.py").write_text(code.format("changed"))
    assert await results() == ["changed", "other"]


async def test_a_run_above_its_memory_limit_is_killed(worker: RunningWorker) -> None:
    deployment = await worker.deploy(warm_flows.hungry, job_variables={"memory_limit_mib": 400})
    run = await start_run(deployment, mebibytes=500)

    assert (await ended(run)).state_name == "Crashed"

    async def explained() -> bool:
        return any("its limit is 400 MiB" in message for message in await messages_of(run))

    await eventually(explained, description="a line of the log that says why")


async def test_a_run_whose_deployment_is_gone_takes_no_process_from_others(
    prefect_server: PrefectServer, tmp_path: Path
) -> None:
    """Prefect's worker counts such a run for ever."""
    with (
        prefect_server.current(),
        RunningWorker(prefect_server, tmp_path, limit=1) as worker,
    ):
        deployment = await worker.deploy(warm_flows.itself)
        async with get_client() as client:
            orphan = await client.create_flow_run_from_deployment(deployment, state=Pending())
            await client.delete_deployment(deployment)
            await client.set_flow_run_state(orphan.id, Scheduled(), force=True)
        assert (await ended(orphan.id)).state_name == "Cancelled"
        other = await ended(await start_run(await worker.deploy(warm_flows.told), lines=1))
        assert other.state_name == "Completed"


async def test_a_worker_told_to_stop_lets_its_runs_end(
    prefect_server: PrefectServer, prefect_api: PrefectServer, tmp_path: Path, notes: Path
) -> None:
    with RunningWorker(prefect_server, tmp_path) as worker:
        assert await result_of(worker, warm_flows.doubled, number=1) == 2
        deployment = await worker.deploy(warm_flows.slow)
        run = await start_run(deployment, notes=str(notes), seconds=3)
        await begun(notes)

        worker.send(signal.SIGTERM)
        late = await start_run(deployment, notes=str(notes), seconds=0)

        assert (await ended(run)).state_name == "Completed"
        assert await asyncio.to_thread(worker.wait, 20) == 0
        assert (await read_run(late)).state_name == "Scheduled"


async def test_a_run_outlives_its_worker(
    prefect_server: PrefectServer, prefect_api: PrefectServer, tmp_path: Path, notes: Path
) -> None:
    with RunningWorker(prefect_server, tmp_path) as worker:
        deployment = await worker.deploy(warm_flows.slow)
        run = await start_run(deployment, notes=str(notes), seconds=3)
        await begun(notes)

        worker.kill_alone()

        assert (await ended(run)).state_name == "Completed"
        assert lines(notes)[-1] == "ends"


async def test_a_run_does_not_outlive_the_fork_server_unseen(
    worker: RunningWorker, notes: Path
) -> None:
    deployment = await worker.deploy(warm_flows.slow)
    run = await start_run(deployment, notes=str(notes), seconds=100)
    process = await begun(notes)
    _, fork_server = state_and_parent(process)

    os.kill(fork_server, signal.SIGKILL)

    assert (await ended(run)).state_name == "Crashed"
    # Nobody has to bury it at once.
    assert state_and_parent(process)[0] in {"Z", "gone"}
    assert await result_of(worker, warm_flows.doubled, number=4) == 8


async def test_worker_and_run_outlive_prefects_server(
    postgres_databases: PostgresDatabases, tmp_path: Path, notes: Path
) -> None:
    """It is away for longer than Prefect's client, and its observers of cancellations, try."""
    database = postgres_database(postgres_databases)
    with (
        PrefectServer(database_url=database) as server,
        server.current(),
        RunningWorker(server, tmp_path) as worker,
    ):
        deployment = await worker.deploy(warm_flows.slow)
        run = await start_run(deployment, notes=str(notes), seconds=5)
        await begun(notes)

        await asyncio.to_thread(server.kill)
        await asyncio.sleep(70)
        await asyncio.to_thread(server.start)

        cancelled = await start_run(deployment, notes=str(notes))
        await in_state(cancelled, "Running", within=60)
        await cancel(cancelled)
        await in_state(cancelled, "Cancelled", within=60)
        assert (await ended(run, within=120)).state_name == "Completed"
        assert worker.running


async def test_a_run_that_ends_before_its_worker_knows_of_its_cancellation_is_cancelled(
    worker: RunningWorker,
) -> None:
    deployment = await worker.deploy(warm_flows.cancelled_at_the_last_moment)
    runs = [await start_run(deployment) for _ in range(3)]
    for run in runs:
        await in_state(run, "Cancelled", within=30)


async def test_a_run_that_ends_by_itself_while_it_is_cancelled_is_cancelled(
    worker: RunningWorker, notes: Path
) -> None:
    run = await start_run(await worker.deploy(warm_flows.deaf), notes=str(notes), seconds=5)
    await begun(notes)
    await cancel(run)

    await in_state(run, "Cancelled", within=60)


async def test_a_deaf_run_is_killed_when_it_is_cancelled(
    worker: RunningWorker, notes: Path
) -> None:
    run = await start_run(await worker.deploy(warm_flows.deaf), notes=str(notes))
    process = await begun(notes)
    await cancel(run)

    assert (await in_state(run, "Cancelled", within=60)).state_name == "Cancelled"
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
