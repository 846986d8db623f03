"""Switching providers: one program, one expectation, another URL."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from blocks.message import Message
from blocks.providers import load_broker
from noa_flows.jobs.noop_job import noop
from noa_flows.prefect_api import PrefectApi, connect_to_prefect
from tests.chaos.brokers import PROVIDERS, Struck, struck_broker
from tests.deployed import deploy
from tests.handing_over import hand_over
from tests.integration.bridging import Bench
from tests.servers.prefect_server import PrefectServer

pytestmark = [pytest.mark.servers, pytest.mark.timeout(300)]

NOA = str(Path(sys.executable).with_name("noa"))


@pytest.fixture(scope="module", params=PROVIDERS)
def struck(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Struck]:
    """A broker of each kind in turn."""
    with struck_broker(request.param, tmp_path_factory.mktemp("broker")) as struck:
        yield struck


@pytest.fixture
async def api(prefect_server: PrefectServer) -> AsyncGenerator[PrefectApi]:
    with prefect_server.current():
        async with connect_to_prefect() as api:
            await deploy(noop)
            yield api


async def noa(*words: str) -> str:
    """Run the installed command, demand that it succeeds, and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(NOA, *words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode()


async def test_the_same_program_has_the_same_results_on_every_provider(
    api: PrefectApi, struck: Struck, tmp_path: Path
) -> None:
    queue = f"switching-{uuid4().hex[:8]}"
    of = ("--broker", struck.url, "--queue", queue)
    broker = await load_broker(struck.url)
    bench = Bench.embedded(tmp_path, queue=queue, jobs=frozenset({"noop"}))
    route = replace(
        bench.route,
        provider=broker.get_block_type_slug(),
        address=broker.address,
        topics=(f"news-{queue}",),
    )
    bench = replace(bench, broker=broker, route=route)

    async with broker.connect() as session:
        await session.declare(queue)
        await session.subscribe(queue, f"news-{queue}")
        await noa("publish", "noop", *of, "--id", "direct", "--data", '{"echo": 1}')
        # Sent twice, it runs once.
        await noa("publish", "noop", *of, "--id", "direct", "--data", '{"echo": 1}')
        topic = ("--broker", struck.url, "--topic", f"news-{queue}")
        await noa("publish", "noop", *topic, "--id", "broadcast", "--data", '{"echo": 2}')
        await noa(
            "publish", "noop", *of, "--id", "later", "--delay-seconds", "1", "--priority", "0"
        )
        wrong = [{"type": "noop", "id": f"w{n}", "data": {"ecko": n}} for n in range(3)]
        await session.publish(queue, [Message(body=json.dumps(one).encode()) for one in wrong])
        after = await hand_over(bench, api, session)
        assert set(after.runs) == {"noop-direct", "noop-broadcast", "noop-later"}

        letters: list[dict[str, Any]] = json.loads(await noa("dead", "list", *of, "--json"))
        assert sorted(one["id"] for one in letters) == ["w0", "w1", "w2"]
        for one in letters:
            assert one["reason"] == "schema"
            assert one["error_type"] == "PayloadError"
            assert one["error"].startswith("data.ecko: unknown field; did you mean 'echo'?")
            assert (one["provider"], one["queue"]) == (broker.get_block_type_slug(), queue)
            assert (one["deliveries"], one["generation"]) == (1, 0)
            assert one["published"] <= one["died"]
        shown = json.loads(await noa("dead", "show", "w1", *of[:2], *of[2:]))
        assert json.loads(shown["body"]) == wrong[1]

        assert await noa("dead", "redrive", "w0", *of) == "1 redriven\n"
        assert await noa("dead", "discard", "w1", *of) == "1 discarded\n"
        after = await hand_over(bench, api, session)
        again = {one.generation for one in after.dead.values()}
        assert (len(after.dead), again, after.depth.dead) == (2, {0, 1}, 2)
        assert await noa("dead", "discard", "--all", *of) == "2 discarded\n"
        assert json.loads(await noa("dead", "list", *of, "--json")) == []
