"""Flows that a warm worker executes in tests; what they do can be seen in a file, or in Prefect."""

import asyncio
import contextvars
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from prefect import flow, get_run_logger, task
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.settings import get_current_settings
from prefect.states import Cancelling

from tests.jobs.append_line import append_line

_VARIABLE = contextvars.ContextVar("noa_leak", default="clean")


def note_hook(flow: Any, flow_run: Any, state: Any) -> None:
    """Note that a hook ran, where, and for which state."""
    append_line(Path(flow_run.parameters["notes"]), f"hook {state.name} {os.getpid()}")


@flow(persist_result=True)
def doubled(number: int) -> int:
    return number * 2


@flow(version="7", retries=1, persist_result=True)
def itself() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the run as it knows itself, and as the server does."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    # The worker's labels come aside.
    deadline = time.monotonic() + 10
    url = f"{get_current_settings().api.url}/flow_runs/{context.flow_run.id}"
    while not (asked := httpx.get(url).json())["labels"].get("prefect.worker.name"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return context.flow_run.model_dump(mode="json"), asked


@flow
def told(lines: int) -> None:
    for line in range(lines):
        get_run_logger().info("line %d", line)


@flow(retries=2, retry_delay_seconds=0)
def third_time_lucky(notes: str) -> str:
    append_line(Path(notes), "attempt")
    if len(Path(notes).read_text().splitlines()) < 3:
        raise RuntimeError("not yet")
    return "lucky"


@task
def step(number: int) -> int:
    time.sleep(0.5)
    return number


@flow
def stepwise(notes: str, steps: int = 60) -> None:
    append_line(Path(notes), f"begins {os.getpid()}")
    for number in range(steps):
        step(number)
    append_line(Path(notes), "ends")


@flow(on_cancellation=[note_hook], on_crashed=[note_hook])
def slow(notes: str, seconds: float = 60) -> None:
    append_line(Path(notes), f"begins {os.getpid()}")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.05)
    append_line(Path(notes), "ends")


@flow(on_cancellation=[note_hook], on_crashed=[note_hook])
async def slow_async(notes: str, seconds: float = 60) -> None:
    append_line(Path(notes), f"begins {os.getpid()}")
    await asyncio.sleep(seconds)
    append_line(Path(notes), "ends")


@flow(on_cancellation=[note_hook])
def deaf(notes: str, seconds: float = 90) -> None:
    """Ignore whatever asks it to stop."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    append_line(Path(notes), f"begins {os.getpid()}")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.05)


@flow
def cancelled_at_the_last_moment() -> None:
    """Ask for its own cancellation, and be at its end before the worker knows."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(context.flow_run.id, Cancelling())


@flow
def hungry(mebibytes: int) -> None:
    """Use memory, and keep it for a while."""
    hoard = [bytearray(os.urandom(2**20)) for _ in range(mebibytes)]
    time.sleep(20)
    assert hoard


@flow(persist_result=True, result_serializer="json")
def leaking() -> dict[str, Any]:
    """Say in what state the process is, and leave it in a bad one."""
    seen: dict[str, Any] = {
        "folder": str(Path.cwd()),
        "variable": os.environ.get("NOA_LEAK"),
        "signal": signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL,
        "level": logging.getLogger().level,
        "handlers": len(logging.getLogger().handlers),
        "context": _VARIABLE.get(),
        "path": "/noa-leak" in sys.path,
        "module": "noa_leaked" in sys.modules,
    }
    os.chdir("/")
    os.environ["NOA_LEAK"] = "leaked"
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    logging.getLogger().setLevel(1)
    logging.getLogger().addHandler(logging.NullHandler())
    _VARIABLE.set("leaked")
    sys.path.append("/noa-leak")
    sys.modules["noa_leaked"] = sys.modules["os"]
    return seen


@flow(persist_result=True, result_serializer="json")
def surroundings() -> dict[str, Any]:
    return {
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "python_path": sys.path,
        "random": __import__("random").random(),
    }
