"""Every private name of Prefect's that noa-flows uses, and nothing else.

A new Prefect may move any of them; `tests/unit/test_prefect_internals.py` then says which. What is
replaced or overridden, and so isn't imported, stands in `OVERRIDDEN`, to be checked likewise.
"""

# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cache
from types import ModuleType
from typing import Any, Final

import anyio.lowlevel
import prefect.client.orchestration
from prefect import flow_engine
from prefect._flow_run_suspension import (
    mark_flow_run_suspension_requested,
    observe_flow_run_suspension,
)
from prefect._internal.attempt_control import (
    AttemptConclusion,
    EngineDisposition,
    EngineOutcomeReceipt,
    StateOwnershipDelegation,
)
from prefect._internal.observers import FlowRunCancellingObserver, FlowRunSuspendingObserver
from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.runner import _flow_run_executor
from prefect.runner._control_channel import ControlChannel
from prefect.runner._flow_run_executor import FlowRunExecutionResult, FlowRunExecutorContext
from prefect.runner._hook_runner import HookRunner
from prefect.runner._process_manager import (
    ProcessHandle,
    create_isolated_termination_scope,
)
from prefect.workers import base
from prefect.workers.process import ProcessJobConfiguration

__all__ = [
    "INHERITED",
    "OVERRIDDEN",
    "AttemptConclusion",
    "ControlChannel",
    "FlowRunCancellingObserver",
    "FlowRunExecutionResult",
    "FlowRunExecutorContext",
    "FlowRunSuspendingObserver",
    "HookRunner",
    "ProcessHandle",
    "create_isolated_termination_scope",
    "csrf_is_off",
    "has_been_told_to_end",
    "has_own_command",
    "has_reported_its_end",
    "mark_flow_run_suspension_requested",
    "observe_flow_run_suspension",
    "observer_of",
    "replace_cancellation_observer",
    "replace_in_engine",
    "send_heartbeats",
    "share_ssl_contexts",
    "spare_greetings",
]

#: Beats for a run while its context is open.
send_heartbeats: Final[Callable[..., AbstractContextManager[None]]] = flow_engine._send_heartbeats

#: Class that is extended → what the extension uses of its instances.
INHERITED: Final[Mapping[str, tuple[str, ...]]] = {
    "prefect.workers.process:ProcessWorker": (
        "_exit_stack",
        "_limit",
        "_limiter",
        "_logger",
        "_prefetch_seconds",
        "_runs_task_group",
        "_work_pool",
        "_work_pool_name",
        "_work_queues",
    ),
    "prefect._internal.observers:FlowRunCancellingObserver": (
        "_check_for_cancelled_flow_runs",
        "_client",
        "_consumer_task",
        "_event_filter",
        "_exit_stack",
        "_in_flight_flow_run_ids",
        "_polling_task",
    ),
    "prefect._internal.observers:FlowRunSuspendingObserver": (
        "_check_for_suspended_flow_runs",
        "_client",
        "_consume_events",
        "_consumer_task",
        "_create_watch",
        "_event_filter",
        "_events_subscriber",
        "_exit_stack",
        "_polling_task",
        "_watches",
    ),
}

#: Where a name is replaced or overridden → its parameters, as they have to be.
OVERRIDDEN: Final[Mapping[str, tuple[str, ...]]] = {
    "prefect.flow_engine:observe_flow_run_suspension": (
        "flow_run_id",
        "suspension_request",
        "polling_interval",
    ),
    "prefect._internal.observers:FlowRunCancellingObserver.__init__": (
        "self",
        "on_cancelling",
        "polling_interval",
        "event_filter",
        "on_failure",
    ),
    "prefect._internal.observers:FlowRunCancellingObserver.add_in_flight_flow_run_id": (
        "self",
        "flow_run_id",
    ),
    "prefect._internal.observers:FlowRunCancellingObserver.remove_in_flight_flow_run_id": (
        "self",
        "flow_run_id",
    ),
    "prefect.flow_engine:_send_heartbeats": ("engine", "join_on_exit"),
    "prefect.workers.base:BaseJobConfiguration._base_environment": (),
    "prefect.workers.base:BaseWorker._cancel_run": ("self", "flow_run_id"),
    "prefect.workers.base:BaseWorker._get_scheduled_flow_runs": ("self",),
    "prefect.workers.base:BaseWorker._give_worker_labels_to_flow_run": ("self", "flow_run_id"),
    "prefect.workers.base:BaseWorker._initialize_after_sync": ("self",),
    "prefect.workers.base:BaseWorker._mark_flow_run_as_cancelled": (
        "self",
        "flow_run",
        "state_updates",
    ),
    "prefect.workers.base:BaseWorker._propose_pending_state": ("self", "flow_run"),
    "prefect.workers.base:BaseWorker._propose_submitting_state": ("self", "flow_run"),
    "prefect.workers.base:BaseWorker._submit_scheduled_flow_runs": ("self", "flow_run_response"),
    "prefect.workers.base:BaseWorker._release_limit_slot": ("self", "flow_run_id"),
}


def replace_in_engine(
    *,
    observe_flow_run_suspension: Callable[..., AbstractContextManager[None]],
    send_heartbeats: Callable[..., AbstractContextManager[None]],
) -> None:
    """Let Prefect's engine use these in this process."""
    flow_engine.observe_flow_run_suspension = observe_flow_run_suspension
    flow_engine._send_heartbeats = send_heartbeats


def replace_cancellation_observer(observer: type[FlowRunCancellingObserver]) -> None:
    """Let Prefect's workers and executors use this one in this process."""
    base.FlowRunCancellingObserver = observer
    _flow_run_executor.FlowRunCancellingObserver = observer


def observer_of(context: FlowRunExecutorContext) -> FlowRunCancellingObserver:
    """Return what watches for the cancellation of the runs that a context executes."""
    return context._observer


def has_reported_its_end(conclusion: AttemptConclusion | None) -> bool:
    """Whether a process has told Prefect the state that its run ended, or is paused, in."""
    return (
        isinstance(conclusion, EngineOutcomeReceipt)
        and conclusion.disposition is EngineDisposition.STATE_REPORTED
    )


def has_been_told_to_end(conclusion: AttemptConclusion | None) -> bool:
    """Whether a process has ended because Prefect cancels its run, and sees to the rest."""
    return isinstance(conclusion, StateOwnershipDelegation)


def has_own_command(configuration: ProcessJobConfiguration) -> bool:
    """Whether a deployment or pool names the command that starts its runs."""
    return configuration._command_configured


def csrf_is_off(client: PrefectClient) -> bool:
    """Whether the server has told this client that it wants no tokens."""
    return not client._client.enable_csrf_support


def spare_greetings(api_url: str, *, csrf_off: bool) -> None:
    """Let this process's clients take a server for compatible, and for one that wants no tokens.

    Each client asks both before its first call; the worker has asked already.
    """
    for kind in (SyncPrefectClient, PrefectClient):
        _spare_greetings_of(kind, api_url, csrf_off=csrf_off)


def _spare_greetings_of(kind: type[Any], api_url: str, *, csrf_off: bool) -> None:
    initialise, check_version = kind.__init__, kind.raise_for_api_version_mismatch

    def initialised(self: Any, *arguments: Any, **named: Any) -> None:
        initialise(self, *arguments, **named)
        if csrf_off and str(self.api_url).rstrip("/") == api_url.rstrip("/"):
            self._client.enable_csrf_support = False

    def checked(self: Any) -> Any:
        if str(self.api_url).rstrip("/") != api_url.rstrip("/"):
            return check_version(self)
        return anyio.lowlevel.checkpoint() if kind is PrefectClient else None

    kind.__init__, kind.raise_for_api_version_mismatch = initialised, checked


def share_ssl_contexts() -> None:
    """Let all of Prefect's clients in this process share what their certificates are verified with.

    Each client makes its own, also for a server without TLS, and reads all certificates for it: 40
    milliseconds, three times a run.
    """
    ssl = prefect.client.orchestration.ssl
    shared = ModuleType("ssl")
    shared.__dict__.update(ssl.__dict__)
    shared.__dict__["create_default_context"] = cache(ssl.create_default_context)
    prefect.client.orchestration.ssl = shared
