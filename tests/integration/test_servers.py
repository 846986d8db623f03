"""The test bed itself: what the other tests take for granted of their servers."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import get_client
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from tests.servers.postgres_databases import PostgresDatabases
from tests.servers.postgres_server import PostgresServer
from tests.servers.prefect_database import postgres_database
from tests.servers.prefect_server import PrefectServer
from tests.servers.prefect_worker import PrefectWorker
from tests.servers.process import ServerFailedError
from tests.servers.process_family import is_alive
from tests.servers.proxies import BULK_CREATE, ApiProxy, TcpProxy
from tests.servers.redis_server import RedisServer
from tests.waiting import eventually, wait_until

pytestmark = pytest.mark.servers

FLOWS = """
import time
from pathlib import Path
from prefect import flow

@flow
def sleeper(mark: str) -> None:
    Path(mark).write_text("started")
    time.sleep(120)
"""


@pytest.fixture
def durable_redis() -> Iterator[RedisServer]:
    with RedisServer(durable=True) as server:
        yield server


def connect(server: RedisServer, port: int | None = None) -> Redis:
    return Redis(port=port or server.port, socket_timeout=0.3, retry=Retry(NoBackoff(), 0))


def a_deployment(entrypoint: str = "flows.py:sleeper", path: str = "", pool: str = "") -> UUID:
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow_from_name(f"flow-{uuid4()}")
        return client.create_deployment(
            flow_id=flow_id,
            name="test",
            entrypoint=entrypoint,
            path=path or None,
            work_pool_name=pool or None,
        )


def test_a_failed_wait_says_what_was_waited_for_and_what_was_last_seen() -> None:
    with pytest.raises(AssertionError, match=r"for the moon; the last of \d+ looks answered 0"):
        wait_until(lambda: 0, description="the moon", timeout=0.05)


async def test_a_predicate_that_hangs_does_not_hang_the_wait() -> None:
    async def hang() -> bool:
        await asyncio.Event().wait()
        return True

    with pytest.raises(AssertionError, match="for Godot"):
        await eventually(hang, description="Godot", timeout=0.05)


def test_redis_keeps_what_it_answered_through_a_kill(durable_redis: RedisServer) -> None:
    with connect(durable_redis) as client:
        client.set("key", "value")
    durable_redis.kill()
    durable_redis.start()
    with connect(durable_redis) as client:
        assert client.get("key") == b"value"


def test_a_stalled_server_answers_when_it_is_resumed(durable_redis: RedisServer) -> None:
    with connect(durable_redis) as client:
        durable_redis.stall()
        with pytest.raises(RedisTimeoutError):
            client.ping()
        durable_redis.resume()
        wait_until(lambda: client.get("key") is None, description="Redis to go on")


def test_a_server_that_cannot_start_shows_its_log() -> None:
    with (
        pytest.raises(ServerFailedError, match="no-such-option"),
        RedisServer(options={"no-such-option": "1"}),
    ):
        pass


def test_servers_die_with_tests_that_are_killed(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from tests.servers.redis_server import RedisServer\n"
        f"with RedisServer(folder=Path({str(tmp_path)!r})) as redis:\n"
        "    print(redis.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as tests:
        assert tests.stdout
        pid = int(tests.stdout.readline())
        assert is_alive(pid)
        tests.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), description="Redis to die with its tests")


def test_the_tcp_proxy_cuts_and_takes_connections_again(durable_redis: RedisServer) -> None:
    with TcpProxy(durable_redis.port) as proxy, connect(durable_redis, proxy.port) as client:
        assert client.ping()
        proxy.refuse()
        proxy.cut()
        with pytest.raises(RedisConnectionError):
            client.ping()
        proxy.accept()
        assert client.ping()


def test_the_tcp_proxy_stalls_and_lets_go(durable_redis: RedisServer) -> None:
    with TcpProxy(durable_redis.port) as proxy, connect(durable_redis, proxy.port) as client:
        assert client.ping()
        proxy.stall()
        with pytest.raises(RedisTimeoutError):
            client.set("late", "yes")
        proxy.heal()
        with connect(durable_redis) as direct:
            wait_until(lambda: direct.get("late"), description="what was held back to arrive")


def test_postgres_keeps_what_it_committed_through_a_kill() -> None:
    with PostgresServer() as server:
        server.databases.create_database("kept")
        server.kill()
        server.start()
        assert server.databases.exists("kept")


def test_prefect_on_postgres_keeps_its_runs_through_a_kill(
    postgres_databases: PostgresDatabases,
) -> None:
    with PrefectServer(database_url=postgres_database(postgres_databases)) as server:
        with server.current():
            deployment_id = a_deployment()
        server.kill()
        server.start()
        with server.current(), get_client(sync_client=True) as client:
            assert client.read_deployment(deployment_id).id == deployment_id


async def test_flows_of_this_process_report_to_the_test_s_server(
    prefect_api: PrefectServer,
) -> None:
    from prefect import flow

    @flow
    async def reporter() -> str:
        return "told"

    assert await reporter() == "told"
    async with get_client() as client:
        assert str(client.api_url).rstrip("/") == prefect_api.api_url
        assert [found.name for found in await client.read_flows()].count("reporter") == 1


def test_an_answer_is_lost_after_the_server_has_done_the_work(
    prefect_server: PrefectServer,
) -> None:
    with ApiProxy(prefect_server.api_url) as proxy, httpx.Client(base_url=proxy.api_url) as client:
        proxy.drop_answer("POST /flows/")
        name = f"flow-{uuid4()}"
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/flows/", json={"name": name})
        assert client.get(f"/flows/name/{name}").json()["name"] == name


def test_a_bulk_create_is_rewritten_counted_and_refused(prefect_api: PrefectServer) -> None:
    deployment_id = a_deployment()
    path = f"/deployments/{deployment_id}/create_flow_run/bulk"
    with ApiProxy(prefect_api.api_url) as proxy, httpx.Client(base_url=proxy.api_url) as client:
        proxy.rewrite(lambda items: [*items, *items], BULK_CREATE)
        assert len(client.post(path, json=[{}]).json()["results"]) == 2
        proxy.answer(404, BULK_CREATE)
        assert client.post(path, json=[{}]).status_code == 404
        proxy.answer(503, times=None)
        assert client.get("/health").status_code == 503
        proxy.heal()
        assert client.get("/health").status_code == 200
        assert proxy.counts[BULK_CREATE] == 2


async def test_websockets_pass_through_the_api_proxy(prefect_server: PrefectServer) -> None:
    from prefect.events import Event, Resource
    from prefect.events.clients import get_events_client, get_events_subscriber
    from prefect.events.filters import EventFilter, EventNameFilter

    name = f"noa.test.{uuid4()}"
    wanted = EventFilter(event=EventNameFilter(name=[name]))
    with ApiProxy(prefect_server.api_url) as proxy, prefect_server.current(api_url=proxy.api_url):
        async with (
            get_events_subscriber(filter=wanted) as subscriber,
            get_events_client() as sender,
        ):
            await sender.emit(Event(event=name, resource=Resource({"prefect.resource.id": "noa"})))
            assert (await anext(subscriber)).event == name
        assert proxy.counts["GET /events/in"] == 1


@pytest.mark.parametrize("with_its_flow_runs", [True, False])
def test_a_worker_is_killed_with_or_without_its_flow_runs(
    prefect_api: PrefectServer, tmp_path: Path, *, with_its_flow_runs: bool
) -> None:
    (tmp_path / "flows.py").write_text(FLOWS)
    mark = tmp_path / "mark"
    pool = f"pool-{uuid4()}"
    with PrefectWorker(prefect_api, pool, sources=tmp_path, limit=1) as worker:
        deployment_id = a_deployment(path=str(tmp_path), pool=pool)
        with get_client(sync_client=True) as client:
            client.create_flow_run_from_deployment(deployment_id, parameters={"mark": str(mark)})
        wait_until(mark.exists, description="the flow to start", timeout=60)
        members = worker.members()
        worker.kill() if with_its_flow_runs else worker.kill_alone()
        assert any(map(is_alive, members)) is not with_its_flow_runs
    assert not any(map(is_alive, members))
