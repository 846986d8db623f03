"""No-op runs: made in bulk as the bridge does, timed, and what the server alone takes of them.

What is measured of a worker stands beside what the server takes at the same moment: a machine that
others slow down slows down both.
"""

import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID, uuid4

from prefect.client.orchestration import get_client
from prefect.states import Completed, Running

from noa_flows.prefect_api import BULK_LIMIT, connect_to_prefect
from tests.jobs.nothing_flow import nothing

#: How many runs one measurement of the server alone takes.
ALONE_RUNS: Final = 25


async def create_runs(deployment: UUID, number: int) -> Sequence[UUID]:
    """Create runs in bulk."""
    bodies = [{"parameters": {"number": 1}, "idempotency_key": uuid4().hex} for _ in range(number)]
    async with connect_to_prefect() as api:
        made = [
            item
            for start in range(0, number, BULK_LIMIT)
            for item in await api.create_runs(str(deployment), bodies[start : start + BULK_LIMIT])
        ]
    return [UUID(item.run_id) for item in made]


async def seconds_to_start(run: UUID) -> float:
    """The seconds from Pending to Running."""
    async with get_client() as client:
        states = {state.name: state for state in await client.read_flow_run_states(run)}
    return (states["Running"].timestamp - states["Pending"].timestamp).total_seconds()


async def server_alone() -> float:
    """The seconds that one client needs to create runs that no worker takes, and to end them."""
    async with get_client() as client:
        flow_id = await client.create_flow(nothing)
        deployment = await client.create_deployment(flow_id=flow_id, name=uuid4().hex)
        began = time.monotonic()
        for run in await create_runs(deployment, ALONE_RUNS):
            for state in (Running(), Completed()):
                await client.set_flow_run_state(run, state)
        return time.monotonic() - began
