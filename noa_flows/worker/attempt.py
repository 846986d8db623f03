"""What a prepared process does: it waits for one order, carries it out, and ends."""

import os
import random
import runpy
import sys
import threading
import time
import warnings
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

import anyio
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import refresh_global_settings_context
from prefect.flows import load_flow_from_flow_run
from prefect.logging.configuration import setup_logging
from prefect.settings import get_current_settings

from noa_flows.prefect_internals import (
    HookRunner,
    mark_flow_run_suspension_requested,
    observe_flow_run_suspension,
    replace_in_engine,
    send_heartbeats,
)
from noa_flows.worker.known import Known
from noa_flows.worker.reports import report_through

HookKind = Literal["cancellation", "crashed"]

_NO_SETTING: Final = "PREFECT__"
_SETTING: Final = "PREFECT_"


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """The hooks that a run's worker runs, as the run can't any more."""

    kind: HookKind
    flow_run: FlowRun
    state: State[Any]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a process is to do: execute a flow run, or run its hooks."""

    flow_run_id: UUID
    known: Known | None
    #: All of it: nothing of the fork server's environment is left.
    environment: Mapping[str, str]
    folder: Path
    #: Whether what the flow prints is to be seen in the worker's output.
    stream_output: bool
    hooks: Hooks | None = None


@dataclass(frozen=True)
class Suspended:
    """The server accepted that this run be suspended; sent by the worker while the run goes on."""

    state: State[Any]


def main(orders: Connection, expected_settings: Mapping[str, str]) -> None:
    """Wait for an order, and carry it out; return without one when the worker is gone.

    Args:
        orders: Where the order comes from.
        expected_settings: Prefect's settings, by their environment variables, that the order will
            most likely come with; reading them takes longer than all else here.
    """
    # Signals for the worker's terminal are the worker's to pass on.
    os.setsid()
    _use_settings(expected_settings)
    try:
        order = orders.recv()
    except (EOFError, OSError):
        return
    _settle_in(order)
    if order.hooks is not None:
        anyio.run(_run_hooks, order.hooks)
        return
    if order.known is not None:
        order.known.answer(infrastructure_pid=str(os.getpid()))
    report_through(orders)
    _replace_observers(order.flow_run_id, orders)
    sys.argv = ["prefect.engine"]
    with warnings.catch_warnings():
        # `prefect.engine` is imported already, and is to be run nevertheless.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")
        runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


def _settle_in(order: Order) -> None:
    """Make this process what a fresh interpreter in the order's environment would be."""
    settings_before = settings_of(os.environ)
    os.environ.clear()
    os.environ.update(order.environment)
    time.tzset()
    os.chdir(order.folder)
    if not order.stream_output:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
    # The processes of a fork server would draw the same numbers, all of them.
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    # Prefect reads files with settings from the working folder, too.
    if settings_of(os.environ) != settings_before or any(order.folder.iterdir()):
        _read_settings()


def _use_settings(settings: Mapping[str, str]) -> None:
    present = settings_of(os.environ)
    if settings != present:
        for name in present:
            del os.environ[name]
        os.environ.update(settings)
        _read_settings()


def _read_settings() -> None:
    logging_before = get_current_settings().logging
    refresh_global_settings_context()
    if get_current_settings().logging != logging_before:
        setup_logging()


def settings_of(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Prefect's settings among the variables of an environment."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_SETTING) and not name.startswith(_NO_SETTING)
    }


async def _run_hooks(hooks: Hooks) -> None:
    runner = HookRunner(resolve_flow=load_flow_from_flow_run)
    if hooks.kind == "crashed":
        await runner.run_crashed_hooks(hooks.flow_run, hooks.state)
    else:
        await runner.run_cancellation_hooks(hooks.flow_run, hooks.state)


def _replace_observers(flow_run_id: UUID, orders: Connection) -> None:
    """Let the worker watch for a suspension, with one connection for all its runs.

    Prefect opens a thread, an event loop and a web socket for each run, and blocks the run for up
    to 0.2 s when it ends.
    """

    @contextmanager
    def told_by_the_worker(
        run_id: UUID, request: Any, polling_interval: float = 10
    ) -> Generator[None, None, None]:
        if run_id != flow_run_id:
            # A subflow with a deployment of its own, which the worker doesn't know.
            with observe_flow_run_suspension(run_id, request, polling_interval):
                yield
            return
        ended = threading.Event()

        def listen() -> None:
            try:
                while isinstance(told := orders.recv(), Suspended):
                    if not mark_flow_run_suspension_requested(run_id, told.state):
                        request.mark_requested(told.state)
            except (EOFError, OSError):
                # The worker is gone, and the run goes on.
                with observe_flow_run_suspension(run_id, request, polling_interval):
                    ended.wait()

        threading.Thread(target=listen, daemon=True, name="noa-suspension").start()
        try:
            yield
        finally:
            ended.set()

    def without_a_last_second(engine: Any, **_: bool) -> AbstractContextManager[None]:
        return send_heartbeats(engine, join_on_exit=False)

    replace_in_engine(
        observe_flow_run_suspension=told_by_the_worker, send_heartbeats=without_a_last_second
    )
