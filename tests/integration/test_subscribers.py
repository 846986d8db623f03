"""Subscribers: a copy of each event for each, and only those that they want become runs."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from blocks.message import Message
from noa_flows.jobs.noop_job import noop
from noa_flows.prefect_api import PrefectApi, connect_to_prefect
from noa_flows.strict_json import dump_json
from tests.deployed import deploy
from tests.handing_over import hand_over
from tests.integration.bridging import Bench, event
from tests.servers.prefect_server import PrefectServer


@pytest.fixture
async def api(prefect_server: PrefectServer) -> AsyncGenerator[PrefectApi]:
    with prefect_server.current():
        async with connect_to_prefect() as api:
            await deploy(noop)
            yield api


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    queue = f"subscriber-{uuid4().hex[:8]}"
    return Bench.embedded(tmp_path, queue=queue, jobs=frozenset({"noop"}))


async def test_only_events_that_pass_the_filters_become_runs_and_all_are_settled(
    api: PrefectApi, bench: Bench
) -> None:
    filters: list[dict[str, Any]] = [
        {"exact": {"type": "noa.job.noop"}},
        {"any": [{"exact": {"data.echo": "EU"}}, {"prefix": {"subject": "urgent"}}]},
    ]
    choosy = replace(bench, route=replace(bench.route, filters=filters))
    queue = bench.route.queue
    events = [
        event("eu", {"echo": "EU"}),
        event("us", {"echo": "US"}),
        event("urgent", {"echo": "US"}, subject="urgent-1"),
        # Another subscriber's: neither a run nor a dead letter here.
        event("foreign", type="noa.job.report"),
    ]
    async with bench.broker.connect() as session:
        await session.declare(queue)
        await session.publish(queue, [Message(body=dump_json(one)) for one in events])
        after = await hand_over(choosy, api, session)
    assert set(after.runs) == {"noop-eu", "noop-urgent-1"}
    assert after.dead == {}
    assert (after.tally.handed_over, after.tally.passed_over) == (2, 2)


async def test_each_subscriber_of_a_topic_has_a_run_of_its_own(
    api: PrefectApi, bench: Bench
) -> None:
    if not bench.broker.capabilities.topics:
        return
    benches = [_subscriber(bench, name) for name in ("billing", "shipping")]
    async with bench.broker.connect() as session:
        for one in benches:
            await session.declare(one.route.queue)
            await session.subscribe(one.route.queue, "orders.placed")
        await session.broadcast("orders.placed", [Message(body=dump_json(event("e-1")))])
        keys = set[str]()
        for one in benches:
            after = await hand_over(one, api, session)
            assert set(after.runs) == {"noop-e-1"}
            keys |= {str(run["idempotency_key"]) for run in after.runs.values()}
    assert len(keys) == 2


def _subscriber(bench: Bench, name: str) -> Bench:
    queue = f"{bench.route.queue}-{name}"
    route = replace(bench.route, name=queue, queue=queue, topics=("orders.placed",))
    return replace(bench, route=route)
