"""Hand-over: one run a message, whatever the answers say and however they get lost."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from blocks.broker import Session
from blocks.message import Depth, Message, utc_now
from noa_flows.bridge.bridge import Bridge
from noa_flows.bridge.intake import INTERRUPTED_HEADER
from noa_flows.claim_check import fetch_parameters
from noa_flows.jobs.noop_job import noop
from noa_flows.labels import DATAREF
from noa_flows.prefect_api import Endpoint, PrefectApi, connect_to_prefect
from tests.deployed import deploy
from tests.integration.bridging import Bench, event, publish
from tests.servers.prefect_server import PrefectServer
from tests.servers.proxies import ApiProxy
from tests.waiting import eventually


@pytest.fixture
def proxy(prefect_server: PrefectServer) -> Generator[ApiProxy]:
    with (
        ApiProxy(prefect_server.api_url) as proxy,
        prefect_server.current(api_url=proxy.api_url),
    ):
        yield proxy


@pytest.fixture
async def api(proxy: ApiProxy) -> AsyncGenerator[PrefectApi]:
    async with connect_to_prefect() as api:
        await deploy(noop)
        yield api


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    queue = f"hand-over-{uuid4().hex[:8]}"
    return Bench.embedded(tmp_path, queue=queue, jobs=frozenset({"noop"}))


async def names_of_runs(api: PrefectApi, queue: str) -> list[str]:
    runs = await api.filter_runs({"tags": {"all_": [f"queue:{queue}"]}})
    return sorted(str(run["name"]) for run in runs)


async def hand_over(bench: Bench, api: PrefectApi, *bodies: Any) -> tuple[Bridge, Depth]:
    """Publish, let the bridge work until the queue is empty, and return what is left."""
    queue = bench.route.queue
    async with bench.broker.connect() as session:
        await publish(session, queue, *bodies)
        async with bench.running(api) as bridge:

            async def is_empty() -> bool:
                depth = await session.depth(queue)
                return depth.ready + depth.in_flight + depth.delayed == 0

            await eventually(is_empty, description="the queue to be empty", timeout=60)
        return bridge, await session.depth(queue)


async def test_a_batch_is_handed_over_in_one_call(
    api: PrefectApi, proxy: ApiProxy, bench: Bench
) -> None:
    bridge, _ = await hand_over(bench, api, *(event(f"m{i}") for i in range(50)))
    assert bridge.tally.handed_over == 50
    assert proxy.counts[Endpoint.BULK_CREATE] == 1
    assert await names_of_runs(api, bench.route.queue) == sorted(f"noop-m{i}" for i in range(50))


async def test_a_lost_answer_makes_no_second_run(
    api: PrefectApi, proxy: ApiProxy, bench: Bench
) -> None:
    proxy.drop_answer(Endpoint.BULK_CREATE)
    await hand_over(bench, api, *(event(f"m{i}") for i in range(20)))
    assert len(await names_of_runs(api, bench.route.queue)) == 20
    assert proxy.counts[Endpoint.CREATE] == 0


async def test_runs_that_a_failing_neighbour_rolled_back_are_made_all_the_same(
    api: PrefectApi, proxy: ApiProxy, bench: Bench
) -> None:
    def plant_nul(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        runs[10]["name"] += "\0"
        return runs

    proxy.rewrite(plant_nul, Endpoint.BULK_CREATE)
    await hand_over(bench, api, *(event(f"m{i}") for i in range(20)))
    assert await names_of_runs(api, bench.route.queue) == sorted(f"noop-m{i}" for i in range(20))
    assert proxy.counts[Endpoint.CREATE] > 0


@pytest.mark.parametrize("status", [404, 405])
async def test_a_server_without_the_bulk_endpoint_gets_single_calls(
    api: PrefectApi, proxy: ApiProxy, bench: Bench, status: int
) -> None:
    proxy.answer(status, Endpoint.BULK_CREATE, times=None)
    await hand_over(bench, api, *(event(f"m{i}") for i in range(5)))
    assert len(await names_of_runs(api, bench.route.queue)) == 5
    assert proxy.counts[Endpoint.BULK_CREATE] == 1
    assert proxy.counts[Endpoint.CREATE] == 5


async def test_every_endpoint_in_use_is_on_the_list(
    api: PrefectApi, proxy: ApiProxy, bench: Bench
) -> None:
    proxy.counts.clear()
    proxy.answer(422, Endpoint.BULK_CREATE)
    await hand_over(bench, api, *(event(f"m{i}") for i in range(3)))
    listed = [re.sub(r"\\{\w+\\}", "[^/]+", re.escape(endpoint)) for endpoint in Endpoint]
    used = set(proxy.counts)
    assert Endpoint.CREATE in used
    assert {one for one in used if not any(re.fullmatch(path, one) for path in listed)} == set()


async def test_a_message_that_comes_twice_has_one_run(
    api: PrefectApi, proxy: ApiProxy, bench: Bench
) -> None:
    await hand_over(bench, api, event("same"), event("same"), event("other"))
    await hand_over(bench, api, event("same"))
    assert await names_of_runs(api, bench.route.queue) == ["noop-other", "noop-same"]


async def test_intake_pauses_while_prefect_is_away_and_nothing_is_lost(
    api: PrefectApi, proxy: ApiProxy, bench: Bench
) -> None:
    proxy.answer(503, Endpoint.BULK_CREATE, times=2)
    proxy.answer(503, Endpoint.FILTER_RUNS, times=2)
    proxy.answer(500, Endpoint.COUNT_RUNS, times=2)
    bridge, depth = await hand_over(bench, api, *(event(f"m{i}") for i in range(10)))
    assert len(await names_of_runs(api, bench.route.queue)) == 10
    assert bridge.tally.retried == bridge.tally.dead == depth.dead == 0


async def test_an_order_that_prefect_refuses_goes_to_the_dead_letters_alone(
    api: PrefectApi, proxy: ApiProxy, bench: Bench
) -> None:
    proxy.answer(422, Endpoint.BULK_CREATE)
    proxy.answer(422, Endpoint.CREATE)
    bridge, depth = await hand_over(bench, api, event("a"), event("b"), event("c"))
    assert (bridge.tally.handed_over, depth.dead) == (2, 1)


@pytest.fixture
async def narrow(api: PrefectApi, bench: Bench) -> Bench:
    """A route to a deployment of its own, of which five runs a band may wait."""
    name = bench.route.queue
    await deploy(noop, name=name)
    route = replace(bench.route, deployments={"noop": f"noop/{name}"})
    return replace(bench, route=route, max_waiting=5)


@pytest.mark.parametrize("apart", [True, False])
async def test_an_interrupted_run_has_one_dead_letter_however_often_it_comes_back(
    api: PrefectApi, bench: Bench, apart: bool
) -> None:
    def interrupted(run: str) -> Message:
        return Message(body=json.dumps(event(run)).encode(), headers={INTERRUPTED_HEADER: run})

    queue = bench.route.queue
    async with bench.broker.connect() as session:
        await session.declare(queue)

        async def is_empty() -> bool:
            depth = await session.depth(queue)
            return depth.ready + depth.in_flight + depth.delayed == 0

        once = [interrupted("run-1"), interrupted("run-2")]
        for batch in [once, [interrupted("run-1")]] if apart else [[*once, interrupted("run-1")]]:
            await session.publish(queue, batch)
            async with bench.running(api):
                await eventually(is_empty, description="the queue to be empty", timeout=60)
        letters = [letter.run_id async for letter in session.browse_dead(queue)]
    assert sorted(letters) == ["run-1", "run-2"]
    assert await names_of_runs(api, queue) == []


async def test_intake_stops_at_the_backlog_limit_and_goes_on_below_it(
    api: PrefectApi, narrow: Bench
) -> None:
    queue = narrow.route.queue
    async with narrow.broker.connect() as session:
        await publish(session, queue, *(event(f"m{i}") for i in range(12)))
        async with narrow.running(api) as bridge:
            await until_handed_over(bridge, 5)
            assert (await session.depth(queue)).ready == 7
            for run in await api.filter_runs({"tags": {"all_": [f"queue:{queue}"]}}):
                await api.force_state(
                    run["id"], state_type="CANCELLED", name="Cancelled", message="by the test"
                )
            await until_handed_over(bridge, 10)


async def test_a_backlog_of_lower_bands_keeps_no_higher_ones_out(
    api: PrefectApi, narrow: Bench
) -> None:
    queue = narrow.route.queue
    async with narrow.broker.connect() as session:
        await publish_at(session, queue, priority=9, count=8)
        async with narrow.running(api) as bridge:
            await until_handed_over(bridge, 5)
            await publish_at(session, queue, priority=4, count=8)
            await until_handed_over(bridge, 10)
            await publish_at(session, queue, priority=0, count=8)
            await until_handed_over(bridge, 15)
            await asyncio.sleep(3)
        assert bridge.tally.handed_over == 15
        assert bridge.tally.released == 0
        assert (await session.depth(queue)).ready == 9
    assert await waiting_in_each_queue(api, queue) == {"high": 5, "normal": 5, "low": 5}


async def test_events_of_a_full_band_wait_with_the_broker_whatever_it_takes_them_for(
    api: PrefectApi, narrow: Bench
) -> None:
    queue = narrow.route.queue
    async with narrow.broker.connect() as session:
        await publish(session, queue, *(event(f"m{i}", priority=9) for i in range(8)))
        await publish(session, queue, *(event(f"n{i}") for i in range(2)))
        async with narrow.running(api) as bridge:
            await until_handed_over(bridge, 7)
        assert (await session.depth(queue)).delayed == 3
    assert await waiting_in_each_queue(api, queue) == {"normal": 2, "low": 5}


async def until_handed_over(bridge: Bridge, count: int) -> None:
    await eventually(
        lambda: _is(bridge.tally.handed_over, count), description=f"{count} runs", timeout=30
    )


async def publish_at(session: Session, queue: str, *, priority: int, count: int) -> None:
    """Publish events that name no priority themselves."""
    messages = [
        Message(body=json.dumps(event(f"p{priority}-{i}")).encode(), priority=priority)
        for i in range(count)
    ]
    assert all(one.error is None for one in await session.publish(queue, messages))


async def waiting_in_each_queue(api: PrefectApi, queue: str) -> Counter[str]:
    runs = await api.filter_runs({"tags": {"all_": [f"queue:{queue}"]}})
    return Counter(run["work_queue_name"] for run in runs)


async def test_a_job_for_later_waits_with_the_broker_until_it_is_near(
    api: PrefectApi, bench: Bench
) -> None:
    queue = bench.route.queue
    async with bench.broker.connect() as session:
        await publish(session, queue, event("later", notbefore="2099-01-01T00:00:00Z"))
        async with bench.running(api) as bridge:
            await eventually(
                lambda: _is(bridge.tally.released, 1), description="its release", timeout=30
            )
        assert (await session.depth(queue)).delayed == 1
    assert await names_of_runs(api, queue) == []


async def test_a_near_job_for_later_waits_as_a_scheduled_run(api: PrefectApi, bench: Bench) -> None:
    due = utc_now() + timedelta(minutes=30)
    await hand_over(bench, api, event("soon", notbefore=due.isoformat()))
    (run,) = await api.filter_runs({"tags": {"all_": [f"queue:{bench.route.queue}"]}})
    assert run["state_type"] == "SCHEDULED"
    assert datetime.fromisoformat(run["expected_start_time"]) == due


async def test_a_payload_above_the_limit_travels_by_reference(
    api: PrefectApi, bench: Bench
) -> None:
    large = {"echo": "x" * 600_000}
    await hand_over(bench, api, event("large", large), event("small", {"echo": "y"}))
    runs = await api.filter_runs({"tags": {"all_": [f"queue:{bench.route.queue}"]}})
    by_name = {run["name"]: run for run in runs}
    assert by_name["noop-small"]["parameters"] == {"echo": "y"}
    assert by_name["noop-large"]["parameters"] == {}
    reference = by_name["noop-large"]["labels"][DATAREF]
    assert await fetch_parameters(reference, bench.settings.storage) == large


async def test_a_cancelled_bridge_gives_everything_back(
    api: PrefectApi, proxy: ApiProxy, bench: Bench
) -> None:
    queue = bench.route.queue
    proxy.delay(30, Endpoint.BULK_CREATE)
    async with bench.broker.connect() as session:
        await publish(session, queue, *(event(f"m{i}") for i in range(5)))
        async with bench.running(api) as bridge:
            await eventually(
                lambda: _is(bridge.tally.received, 5), description="the messages' intake"
            )
        depth = await session.depth(queue)
        assert (depth.ready, depth.in_flight) == (5, 0)
        (delivery, *_) = await session.receive(queue, max_messages=1, wait=timedelta(seconds=1))
        assert delivery.deliveries == 1


async def _is(value: int, expected: int) -> bool:
    return value == expected
