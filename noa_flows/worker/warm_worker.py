"""A Prefect worker whose flow runs start in processes that are ready for them."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import anyio
import anyio.abc
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorkerResult
from typing_extensions import override

from noa_flows.prefect_internals import (
    FlowRunExecutionResult,
    FlowRunExecutorContext,
    ProcessHandle,
    csrf_is_off,
    has_been_told_to_end,
    has_reported_its_end,
    observer_of,
    replace_cancellation_observer,
)
from noa_flows.settings import get_settings
from noa_flows.worker.attempt import Suspended
from noa_flows.worker.hooks import WarmHooks
from noa_flows.worker.job_configuration import (
    WarmJobConfiguration,
    WarmVariables,
    settings_as_environment,
)
from noa_flows.worker.known import Known
from noa_flows.worker.observers import CancellationObserver, SuspensionObserver
from noa_flows.worker.processes import ProcessStats, Scale, WarmProcesses
from noa_flows.worker.prompt_worker import PromptWorker
from noa_flows.worker.reads import share_reads
from noa_flows.worker.starter import WarmStarter

#: How long Prefect takes, at most, to see that a process has gone, and run its hooks.
_KILLING_SECONDS: Final = 40
_NOTICING_SECONDS: Final = 10


class WarmWorker(PromptWorker):
    """Executes flow runs in processes with Prefect and the jobs imported ahead.

    Each run has a process of its own, forked from one that has done nothing but import: nothing of
    a run is left for the next, and the memory doesn't grow. A run with a `command`, or with
    variables that an interpreter reads when it starts (`PYTHONPATH` …), is executed as by Prefect's
    process worker.

    Example:
        $ prefect worker start --type warm --pool noa
    """

    type = "warm"
    job_configuration = WarmJobConfiguration
    job_configuration_variables = WarmVariables

    _display_name = "Warm process"
    _description = "Execute flow runs in processes that are ready, within milliseconds."
    _documentation_url = ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        replace_cancellation_observer(CancellationObserver)
        settings = get_settings().workers
        self._processes = WarmProcesses(
            Scale(
                minimum=settings.min_workers,
                maximum=self._limit or settings.max_workers,
                threshold=settings.scaling_threshold,
            )
        )
        self._limit = self._limit or settings.max_workers
        self._executors = FlowRunExecutorContext()
        self._hooks = WarmHooks(self._processes)
        self._suspensions = SuspensionObserver(on_suspended=self._tell_suspended)
        #: Those executed in a warm process now.
        self._warm_runs = set[UUID]()
        self._draining: asyncio.Task[None] | None = None
        self._main: asyncio.Task[Any] | None = None

    def process_stats(self) -> Sequence[ProcessStats]:
        """Describe the worker's processes, busy ones first."""
        return self._processes.stats()

    def resize(self, scale: Scale) -> None:
        """Follow another scale from now on; no run is touched."""
        self._processes.resize(scale)
        self._limit = scale.maximum
        if self._limiter is not None:
            self._limiter.total_tokens = scale.maximum

    @override
    async def start(
        self,
        run_once: bool = False,
        with_healthcheck: bool = False,
        printer: Callable[..., None] = print,
    ) -> None:
        """Work until told to stop: at SIGTERM, once the runs at hand have ended, or time is up.

        A second SIGTERM, like SIGINT, stops the runs as well; they become Crashed.
        """
        loop = asyncio.get_running_loop()
        with suppress(RuntimeError):  # only the main thread may; a WorkerManager's is another
            loop.add_signal_handler(signal.SIGTERM, self._on_sigterm)
        self._main = asyncio.current_task()
        try:
            await super().start(run_once, with_healthcheck, printer)
        except asyncio.CancelledError:
            if self._draining is None or self._main is None:
                raise
            self._main.uncancel()
            printer(f"Worker {self.name!r} stopped!")

    def _on_sigterm(self) -> None:
        if self._draining is not None or not self.is_setup:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        """Let the runs at hand end, while there is patience, and stop."""
        patience = get_settings().workers.drain_seconds
        self._logger.info(
            "Stopping once %d runs have ended, after %s seconds at the latest.",
            self.limiter.borrowed_tokens,
            patience,
        )
        with anyio.move_on_after(patience):
            await self.finish_runs()
        if self._main is not None:
            self._main.cancel()

    @override
    async def setup(self) -> None:
        for part in (self._processes, self._executors, self._suspensions):
            await self._exit_stack.enter_async_context(part)
        await super().setup()
        share_reads(self.client)
        update = self._unless_it_is_the_pid(self.client.update_flow_run)
        setattr(self.client, "update_flow_run", update)  # noqa: B010 — of this one client
        # What the runs will get: where they get nothing else, their settings are read already.
        os.environ.update(settings_as_environment())
        self._processes.open()

    def _unless_it_is_the_pid(self, update: Callable[..., Any]) -> Callable[..., Any]:
        """Leave the process id of a warm run to the run, which makes such a call anyway."""

        @wraps(update)
        async def updated(flow_run_id: UUID, **named: Any) -> Any:
            if set(named) == {"infrastructure_pid"} and flow_run_id in self._warm_runs:
                return None
            return await update(flow_run_id, **named)

        return updated

    @override
    async def run(  # type: ignore[override]
        self,
        flow_run: FlowRun,
        configuration: WarmJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        if configuration.needs_its_own_interpreter():
            return await super().run(flow_run, configuration, task_status)
        with configuration.folder() as folder:
            starter = WarmStarter(
                processes=self._processes,
                known=await self._known_of(flow_run),
                control_channel=self._executors.control_channel,
                cancellations=self._cancellations,
                environment=configuration.environment,
                folder=Path(folder),
                stream_output=configuration.stream_output,
                memory_limit_bytes=configuration.memory_limit_bytes,
            )
            self._warm_runs.add(flow_run.id)
            try:
                return await self._execute(flow_run, starter, task_status)
            finally:
                self._warm_runs.discard(flow_run.id)

    @property
    def _cancellations(self) -> CancellationObserver:
        observer = observer_of(self._executors)
        assert isinstance(observer, CancellationObserver), "it has been replaced"
        return observer

    @property
    def _own_labels(self) -> Mapping[str, str]:
        """The labels that Prefect's worker gives its runs, if they are wanted."""
        if not get_settings().workers.label_runs:
            return {}
        return {
            "prefect.worker.name": self.name,
            "prefect.worker.type": self.type,
            "prefect.work-pool.name": self.work_pool.name,
            "prefect.work-pool.id": str(self.work_pool.id),
        }

    async def _known_of(self, flow_run: FlowRun) -> Known:
        read = self.client
        deployment, queue_id = flow_run.deployment_id, flow_run.work_queue_id
        queue = None if queue_id is None else await read.read_work_queue(queue_id)
        # What isn't in the answer to a poll, but in that to a question for the run.
        whole = {
            "labels": {**flow_run.labels, **self._own_labels},
            "work_pool_id": self.work_pool.id,
            "work_pool_name": self.work_pool.name,
            "work_queue_name": None if queue is None else queue.name,
        }
        return Known(
            flow_run=flow_run.model_copy(update=whole),
            flow=await read.read_flow(flow_run.flow_id),
            deployment=None if deployment is None else await read.read_deployment(deployment),
            work_pool=self.work_pool,
            work_queue=queue,
            result_storage=await read.read_server_default_result_storage(),
            api_url=str(read.api_url),
            csrf_off=csrf_is_off(read),
        )

    @override
    async def _propose_submitting_state(self, flow_run: FlowRun) -> None:
        """Say nothing: a run is in this state for as long as its infrastructure needs to start."""

    @override
    async def _give_worker_labels_to_flow_run(self, flow_run_id: UUID) -> None:
        """Give the run the worker's labels, if wanted, while its process starts."""
        if self._own_labels:
            self._do_aside(self.client.update_flow_run_labels, flow_run_id, self._own_labels)

    async def _execute(
        self,
        flow_run: FlowRun,
        starter: WarmStarter,
        task_status: anyio.abc.TaskStatus[int] | None,
    ) -> ProcessWorkerResult:
        executor = self._executors.create_executor(
            flow_run, starter, hook_runner=self._hooks, propose_submitting=False
        )
        execution: FlowRunExecutionResult | None = None

        async def submit(
            *, task_status: anyio.abc.TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED
        ) -> None:
            nonlocal execution
            execution = await executor.submit(task_status=task_status)

        self._hooks.remember(flow_run.id, starter.environment)
        async with anyio.create_task_group() as group:
            handle = await group.start(submit)
            if task_status is not None:
                task_status.started(handle.pid)
            if flow_run.state is not None:
                self._suspensions.watch(flow_run.id, flow_run.state)
        self._suspensions.remove_in_flight_flow_run_id(flow_run.id)
        if execution is None or execution.status_code is None:
            raise RuntimeError("the flow run's process could not be started")
        if has_reported_its_end(starter.conclusion):
            self._hooks.forget(flow_run.id)
        else:
            was_killed = (execution.handle.returncode or 0) < 0
            prefect_sees_to_it = was_killed or has_been_told_to_end(starter.conclusion)
            patience = _KILLING_SECONDS if prefect_sees_to_it else _NOTICING_SECONDS
            self._do_aside(self._settle_cancellation, flow_run.id, patience)
        return ProcessWorkerResult(
            status_code=execution.status_code, identifier=str(execution.handle.pid)
        )

    async def _settle_cancellation(self, flow_run_id: UUID, patience: float) -> None:
        """Call a run cancelled that ended while it was being cancelled, if nobody else does.

        A run that isn't allowed to begin any more, since it is being cancelled, or that comes to
        its end meanwhile, is gone before Prefect has found its process; and who doesn't find it
        leaves the run Cancelling.
        """
        await anyio.sleep(patience)
        with suppress(ObjectNotFound):
            flow_run = await self.client.read_flow_run(flow_run_id)
            if flow_run.state is not None and flow_run.state.is_cancelling():
                message = "The flow run ended while it was being cancelled."
                await self._mark_flow_run_as_cancelled(flow_run, {"message": message})

    @override
    async def _cancel_run(self, flow_run_id: UUID) -> None:
        """Cancel a run that has no process yet; Prefect's executor cancels those that have."""
        if self._processes.find(flow_run_id) is None:
            await super()._cancel_run(flow_run_id)

    def _tell_suspended(self, flow_run_id: UUID, state: State[Any]) -> None:
        if (process := self._processes.find(flow_run_id)) is not None:
            process.tell(Suspended(state))
