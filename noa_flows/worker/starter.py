"""Executes one flow run in a prepared process, where Prefect would start interpreters."""

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
import anyio.abc
import httpx
from prefect.client.schemas.objects import FlowRun
from prefect.logging.loggers import flow_run_logger

from noa_flows.prefect_internals import (
    AttemptConclusion,
    ControlChannel,
    ProcessHandle,
    create_isolated_termination_scope,
)
from noa_flows.worker.attempt import Order
from noa_flows.worker.known import Known
from noa_flows.worker.observers import CancellationObserver
from noa_flows.worker.processes import WarmProcess, WarmProcesses

_MEMORY_CHECK_SECONDS: Final = 0.5
#: How long a killed process isn't said to have crashed. Prefect's server may still be at its last
#: request, that it has completed; of two at the same time, it lets the second undo the first.
_LAST_REQUEST_SECONDS: Final = 3


@dataclass(kw_only=True)
class WarmStarter:
    """Prefect's strategy of starting a process (`ProcessStarter`), for one run."""

    processes: WarmProcesses
    control_channel: ControlChannel
    known: Known
    environment: Mapping[str, str]
    folder: Path
    stream_output: bool
    cancellations: CancellationObserver
    #: Resident memory above which the process is killed.
    memory_limit_bytes: int | None
    #: What Prefect's engine had said of the run's end when the process had ended.
    conclusion: AttemptConclusion | None = field(default=None, init=False)

    async def start(
        self,
        flow_run: FlowRun,
        task_status: anyio.abc.TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Give the run to a process, report its handle, and return when it has ended.

        Raises:
            OSError: No process can be made.
        """
        process = await self.processes.start(
            Order(
                flow_run_id=flow_run.id,
                known=self.known,
                environment={**self.environment, **self._control_of(flow_run)},
                folder=self.folder,
                stream_output=self.stream_output,
            )
        )
        task_status.started(
            ProcessHandle(
                process,  # type: ignore[arg-type] — Prefect asks for its pid and returncode only
                create_isolated_termination_scope(process.pid),
            )
        )
        async with anyio.create_task_group() as group:
            if self.memory_limit_bytes is not None:
                group.start_soon(_limit_memory, process, self.memory_limit_bytes, flow_run)
            if await self.processes.finished(process) < 0:
                await anyio.sleep(_LAST_REQUEST_SECONDS)
            self.conclusion = self.control_channel.get_conclusion(flow_run.id)
            if self.conclusion is None and self.cancellations.has_told(flow_run.id):
                # Else its end would pass for a crash.
                with suppress(httpx.HTTPError):
                    await self.cancellations.insist(flow_run.id)
            group.cancel_scope.cancel()

    def _control_of(self, flow_run: FlowRun) -> Mapping[str, str]:
        """Where the run connects to, to be told that it is cancelled."""
        try:
            port, token = self.control_channel.register(flow_run.id)
        except RuntimeError:
            # Prefect could not listen, and has logged it; a cancellation then kills.
            return {}
        return {"PREFECT__CONTROL_PORT": str(port), "PREFECT__CONTROL_TOKEN": token}


async def _limit_memory(process: WarmProcess, limit: int, flow_run: FlowRun) -> None:
    """Kill a process that uses too much, before the machine's own killer picks another."""
    while (stats := process.stats()) is not None:
        if stats.memory_bytes > limit:
            flow_run_logger(flow_run).error(
                "The run used %d MiB of memory; its limit is %d MiB (the job variable "
                "`memory_limit_mib`, or `workers.memory_limit_mib`). It is killed.",
                stats.memory_bytes // 2**20,
                limit // 2**20,
            )
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return
        await anyio.sleep(_MEMORY_CHECK_SECONDS)
