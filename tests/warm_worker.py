"""A worker with a pool of its own, deployments to that, and their runs."""

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectAlreadyExists
from prefect.flows import Flow

from tests.project import PROJECT
from tests.servers.prefect_server import PrefectServer
from tests.servers.prefect_worker import PrefectWorker
from tests.waiting import eventually


class RunningWorker(PrefectWorker):
    """A worker of the kind asked for, and of a pool that nobody else uses, or of a given one."""

    def __init__(
        self,
        server: PrefectServer,
        folder: Path,
        *,
        kind: str = "warm",
        limit: int = 4,
        settings: Mapping[str, str] | None = None,
        pool: str | None = None,
    ) -> None:
        self.pool = pool or f"{kind}-{uuid4().hex[:8]}"
        self.kind = kind
        # Tests' flows are imported by their dotted names.
        python_path = {"PYTHONPATH": str(PROJECT)}
        super().__init__(
            server,
            self.pool,
            sources=folder,
            kind=kind,
            limit=limit,
            settings={**python_path, **(settings or {})},
        )

    def send(self, sign: signal.Signals) -> None:
        """Send a signal to the worker alone."""
        os.kill(self.pid, sign)

    def wait(self, timeout: float) -> int:
        """Wait until the worker ends by itself, and return its exit code."""
        return self._leader().wait(timeout)

    async def deploy(
        self,
        flow: Flow[..., Any],
        *,
        entrypoint: str | None = None,
        pull_steps: Sequence[Mapping[str, Any]] = (),
        job_variables: Mapping[str, Any] | None = None,
    ) -> UUID:
        """Deploy a flow to the worker's pool, under a new name each time."""
        async with get_client() as client:
            with suppress(ObjectAlreadyExists):
                await client.create_work_pool(WorkPoolCreate(name=self.pool, type=self.kind))
            return await client.create_deployment(
                flow_id=await client.create_flow(flow),
                name=uuid4().hex,
                entrypoint=entrypoint or f"{flow.fn.__module__}.{flow.fn.__name__}",
                work_pool_name=self.pool,
                pull_steps=[dict(step) for step in pull_steps],
                job_variables=dict(job_variables or {}),
                parameter_openapi_schema=flow.parameters.model_dump(),
            )


async def start_run(deployment: UUID, **parameters: Any) -> UUID:
    async with get_client() as client:
        run = await client.create_flow_run_from_deployment(deployment, parameters=parameters)
        return run.id


async def read_run(run: UUID) -> FlowRun:
    async with get_client() as client:
        return await client.read_flow_run(run)


async def ended(run: UUID, within: float = 60) -> FlowRun:
    """Wait until a run is in a final state, and return it."""
    return await in_state(run, None, within)


async def in_state(run: UUID, name: str | None, within: float = 60) -> FlowRun:
    """Wait until a run is in a state, or in any final one."""

    async def found() -> FlowRun | None:
        now = await read_run(run)
        if now.state is None:
            return None
        return now if (now.state.is_final() if name is None else now.state.name == name) else None

    description = f"the run {run} to be {name or 'at an end'}"
    return await eventually(found, description=description, timeout=within, interval=0.05)
