"""Stopping a local installation leaves nothing behind."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments import local
from deployments.local import stop_family
from tests.waiting import wait_until

# A worker that can't be asked to stop, with a flow run in a session of its own.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
run = subprocess.Popen(sleep, start_new_session=True)
print(run.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", STUBBORN]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        yield process
        process.kill()


def test_a_worker_that_has_to_be_killed_leaves_no_flow_run_behind(
    stubborn: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_STOP_DEADLINE_SECONDS", 0.5)
    assert stubborn.stdout is not None
    run = int(stubborn.stdout.readline())
    stop_family(stubborn.pid)
    assert stubborn.wait(timeout=5) == -9
    wait_until(lambda: not is_running(run), description="the flow run to end")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
