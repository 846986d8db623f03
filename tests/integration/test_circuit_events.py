"""A broker that goes away and comes back: intake pauses, the events say so, nothing is lost."""

from collections.abc import AsyncGenerator, Generator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from blocks.message import Message
from blocks.providers import load_broker
from noa_flows.bridge.circuit_breaker import Circuit
from noa_flows.consumers.events import ConsumerEvents
from noa_flows.jobs.noop_job import noop
from noa_flows.prefect_api import PrefectApi, connect_to_prefect
from noa_flows.strict_json import dump_json
from tests.deployed import deploy
from tests.handing_over import runs_of
from tests.integration.bridging import Bench, event
from tests.servers.prefect_server import PrefectServer
from tests.servers.proxies.tcp_proxy import TcpProxy
from tests.servers.redis_server import RedisServer
from tests.waiting import eventually


@pytest.fixture
async def api(prefect_server: PrefectServer) -> AsyncGenerator[PrefectApi]:
    with prefect_server.current():
        async with connect_to_prefect() as api:
            await deploy(noop)
            yield api


@pytest.fixture
def proxy(redis_server: RedisServer) -> Generator[TcpProxy]:
    with TcpProxy(redis_server.port) as proxy:
        yield proxy


async def test_the_circuit_of_a_broker_opens_is_probed_and_closes_and_events_tell_it(
    api: PrefectApi, proxy: TcpProxy, redis_server: RedisServer, tmp_path: Path
) -> None:
    queue = f"circuit-{uuid4().hex[:8]}"
    bench = Bench.embedded(tmp_path, queue=queue, jobs=frozenset({"noop"}))
    broker = await load_broker(f"redis://127.0.0.1:{proxy.port}/0")
    route = replace(bench.route, provider="redis-broker", address=broker.address)
    bench = replace(bench, broker=broker, route=route)
    resource = f"noa.queue.redis.{queue}"

    async def told(circuit: Circuit) -> bool:
        found = await api.last_event(f"noa.circuit.{circuit}", resource)
        return found is not None and found["payload"]["circuit"] == "broker"

    async def has_runs(*names: str) -> bool:
        return set(await runs_of(api, queue)) == set(names)

    direct = await load_broker(redis_server.url)
    async with direct.connect() as session, bench.running(api, ConsumerEvents(route)):
        await session.publish(queue, [Message(body=dump_json(event("before")))])
        await eventually(lambda: has_runs("noop-before"), description="a run", timeout=30)
        proxy.refuse()
        proxy.cut()
        for circuit in (Circuit.OPEN, Circuit.HALF_OPEN):
            await eventually(
                lambda circuit=circuit: told(circuit), description=f"{circuit}", timeout=30
            )
        await session.publish(queue, [Message(body=dump_json(event("meanwhile")))])
        proxy.heal()
        await eventually(lambda: told(Circuit.CLOSED), description="closed", timeout=60)
        await eventually(
            lambda: has_runs("noop-before", "noop-meanwhile"), description="both runs", timeout=30
        )
