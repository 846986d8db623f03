"""Runs a flow's hooks in prepared processes, never in the worker's own."""

import os
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger

from noa_flows.worker.attempt import HookKind, Hooks, Order
from noa_flows.worker.processes import WarmProcesses

#: A hook runs within a minute of the end of its run.
_REMEMBERED_RUNS: Final = 1000


class WarmHooks:
    """Prefect's runner of `on_crashed` and `on_cancellation` hooks, for runs of a warm worker."""

    def __init__(self, processes: WarmProcesses) -> None:
        self._processes = processes
        self._environments = OrderedDict[UUID, Mapping[str, str]]()

    def remember(self, flow_run_id: UUID, environment: Mapping[str, str]) -> None:
        """Keep the environment that a run got: its hooks get it, too."""
        self._environments[flow_run_id] = environment
        while len(self._environments) > _REMEMBERED_RUNS:
            self._environments.popitem(last=False)

    def forget(self, flow_run_id: UUID) -> None:
        """Forget a run that has ended by itself."""
        self._environments.pop(flow_run_id, None)

    async def run_cancellation_hooks(self, flow_run: FlowRun, state: State[Any]) -> None:
        """Run the flow's `on_cancellation` hooks, where the state is Cancelling."""
        if state.is_cancelling():
            await self._run("cancellation", flow_run, state)

    async def run_crashed_hooks(self, flow_run: FlowRun, state: State[Any]) -> None:
        """Run the flow's `on_crashed` hooks, where the state is Crashed."""
        if state.is_crashed():
            await self._run("crashed", flow_run, state)

    async def _run(self, kind: HookKind, flow_run: FlowRun, state: State[Any]) -> None:
        with tempfile.TemporaryDirectory(prefix="noa-hooks-") as folder:
            order = Order(
                flow_run_id=flow_run.id,
                known=None,
                environment=self._environments.get(flow_run.id, os.environ.copy()),
                folder=Path(folder),
                stream_output=True,
                hooks=Hooks(kind=kind, flow_run=flow_run, state=state),
            )
            code = await self._processes.run_aside(order)
        if code != 0:
            flow_run_logger(flow_run).warning("The on_%s hooks ended with code %s.", kind, code)
