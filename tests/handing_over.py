"""Hands messages over until the queue is empty, and looks at what has become of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blocks.broker import Session
from blocks.message import DeadLetter, Depth, Message
from noa_flows.bridge.tally import Tally
from noa_flows.prefect_api import PrefectApi
from tests.integration.bridging import Bench
from tests.waiting import eventually


@dataclass(frozen=True, kw_only=True)
class Aftermath:
    """What is left when nothing waits in the queue any more."""

    tally: Tally
    depth: Depth
    #: Message id → its dead letter.
    dead: Mapping[str, DeadLetter]
    #: Run name → the run.
    runs: Mapping[str, Mapping[str, Any]]


async def publish(session: Session, queue: str, messages: Sequence[Message]) -> Sequence[str]:
    """Publish messages, and return their ids."""
    await session.declare(queue)
    published = await session.publish(queue, messages)
    assert all(one.error is None for one in published), published
    return [str(one.id) for one in published]


async def hand_over(bench: Bench, api: PrefectApi, session: Session) -> Aftermath:
    """Let the bridge work until the queue is empty."""
    queue = bench.route.queue
    async with bench.running(api) as bridge:

        async def is_empty() -> bool:
            # Some brokers tell only whoever holds a message that it is in flight.
            depth = await bridge.depth()
            return depth.ready + depth.in_flight + depth.delayed == 0

        await eventually(is_empty, description="the queue to be empty", timeout=60)
    return Aftermath(
        tally=bridge.tally,
        depth=await session.depth(queue),
        dead={letter.id: letter async for letter in session.browse_dead(queue)},
        runs=await runs_of(api, queue),
    )


async def runs_of(api: PrefectApi, queue: str) -> Mapping[str, Mapping[str, Any]]:
    """The runs of a queue's messages, by name."""
    runs = await api.filter_runs({"tags": {"all_": [f"queue:{queue}"]}})
    by_name = {str(run["name"]): run for run in runs}
    assert len(by_name) == len(runs), sorted(run["name"] for run in runs)
    return by_name
