"""The processes that a warm worker keeps ready, as many as the load asks for."""

import asyncio
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID

from prefect.logging import get_logger

from noa_flows.worker.attempt import Order, Suspended, main, settings_of
from noa_flows.worker.reports import pass_on

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
#: The exit code that multiprocessing gives where the fork server died before it could tell.
_UNKNOWN_EXIT: Final = 255
_LAST_REPORTS_SECONDS: Final = 1


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How many processes there are to be, and when there are more."""

    minimum: int = 1
    maximum: int = 4
    #: The share of busy processes, from 0 to 1, above which there is to be one more.
    threshold: float = 0.75
    #: How long the load has to have been low before there is one less.
    patience_seconds: float = 30


@dataclass(frozen=True, kw_only=True)
class ProcessStats:
    """One process, as it is now."""

    pid: int
    #: The flow run that it executes; None where it waits for one.
    flow_run_id: UUID | None
    age_seconds: float
    #: Resident memory, of which most is shared with the others.
    memory_bytes: int
    cpu_seconds: float


class WarmProcess:
    """A prepared process; it takes one order in its life."""

    def __init__(self, process: BaseProcess, orders: Connection) -> None:
        assert process.pid is not None
        #: Also the id of its session and process group.
        self.pid: Final = process.pid
        self.flow_run_id: UUID | None = None
        self._process = process
        self._orders = orders
        self._born = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._code: int | None = None
        #: Nothing more will come of it; so it is until it has an order.
        self._has_reported = True
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(process.sentinel, self._note_the_end)

    @property
    def returncode(self) -> int | None:
        """The exit code, -9 for a SIGKILL and so on; None while it lives."""
        return self._ended.result() if self._ended.done() else None

    def give(self, order: Order) -> None:
        """Send it what it is to do.

        Raises:
            OSError: It has ended.
        """
        self._orders.send(order)
        self.flow_run_id = order.flow_run_id
        self._has_reported = False
        threading.Thread(target=self._listen, daemon=True, name="noa-reports").start()

    def tell(self, news: Suspended) -> None:
        """Tell it something about its run; one that has ended needn't know."""
        with suppress(OSError):
            self._orders.send(news)

    def dismiss(self) -> None:
        """Let it end, where it has no order yet."""
        self._orders.close()

    async def wait(self) -> int:
        """Wait until it has ended, and return the exit code."""
        return await asyncio.shield(self._ended)

    def stats(self) -> ProcessStats | None:
        """Read what it uses now; None where it has ended."""
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
            spent = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except (OSError, IndexError):
            return None
        return ProcessStats(
            pid=self.pid,
            flow_run_id=self.flow_run_id,
            age_seconds=time.monotonic() - self._born,
            memory_bytes=pages * _PAGE_BYTES,
            cpu_seconds=(int(spent[11]) + int(spent[12])) / _TICKS_A_SECOND,
        )

    def _listen(self) -> None:
        """Pass on what the run reports, until nobody is left to report; in a thread of its own."""
        while True:
            try:
                pass_on(self._orders.recv())
            except (EOFError, OSError):
                break
            except Exception:  # noqa: BLE001 — who stops listening blocks the run in the end
                get_logger(__name__).exception("a report of the run %s is lost", self.flow_run_id)
        with suppress(RuntimeError):  # the worker has ended meanwhile
            self._loop.call_soon_threadsafe(self._note_the_last_report)

    def _note_the_last_report(self) -> None:
        self._has_reported = True
        self._finish()

    def _note_the_end(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._process.join()
        code = self._process.exitcode
        self._code = _UNKNOWN_EXIT if code is None else code
        if self._code == _UNKNOWN_EXIT:
            # The fork server is gone; its process may go on, and nobody would see how it ends.
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._process.close()
        if self._has_reported:
            self._finish()
        else:
            # A process that the run has left behind may keep its end open.
            self._loop.call_later(_LAST_REPORTS_SECONDS, self._finish)

    def _finish(self) -> None:
        """Be over, once the process has ended and its last report has been read."""
        if self._code is None or self._ended.done():
            return
        with suppress(OSError), socket.socket(fileno=os.dup(self._orders.fileno())) as connection:
            connection.shutdown(socket.SHUT_RDWR)
        self._orders.close()
        self._ended.set_result(self._code)


@dataclass
class WarmProcesses:
    """Keeps processes ready: at least one, and as many as the scale says.

    Use as an asynchronous context manager. Python's own fork server makes them; should it die, a
    new one is started, and what it had made goes on.
    """

    scale: Scale = field(default_factory=Scale)
    _idle: deque[WarmProcess] = field(default_factory=deque[WarmProcess])
    _busy: dict[UUID, WarmProcess] = field(default_factory=dict[UUID, WarmProcess])
    _open: bool = False

    def __post_init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["noa_flows.worker.preload"])
        # One thread: forking takes milliseconds, and the first time as long as the imports take.
        self._forker = ThreadPoolExecutor(1, thread_name_prefix="noa-fork")
        self._wanted = self.scale.minimum
        self._expected_settings = settings_of(os.environ)
        self._low_since: float | None = None
        self._refilling: asyncio.Task[None] | None = None
        self._logger = get_logger("noa_flows.worker")

    async def __aenter__(self) -> Self:
        return self

    def open(self) -> None:
        """Make the first processes; they get this process's environment as it is now."""
        self._open = True
        self._refill()

    async def __aexit__(self, *_: object) -> None:
        self._open = False
        if self._refilling is not None:
            # A program that is interrupted cancels all its tasks at once.
            with suppress(asyncio.CancelledError):
                await self._refilling
        for process in self._idle:
            process.dismiss()
        await asyncio.gather(*(process.wait() for process in [*self._idle, *self._busy.values()]))
        self._forker.shutdown()

    def stats(self) -> Sequence[ProcessStats]:
        """Describe all processes, busy ones first."""
        described = (process.stats() for process in [*self._busy.values(), *self._idle])
        return [one for one in described if one is not None]

    def find(self, flow_run_id: UUID) -> WarmProcess | None:
        """The process that executes a run."""
        return self._busy.get(flow_run_id)

    async def start(self, order: Order) -> WarmProcess:
        """Give an order to a process that is ready, or to a new one.

        Raises:
            OSError: No process can be made.
        """
        self._expected_settings = settings_of(order.environment)
        process = await self._take(order)
        self._busy[order.flow_run_id] = process
        self._grow()
        self._refill()
        return process

    async def run_aside(self, order: Order) -> int:
        """Carry out an order beside the runs, uncounted; return the exit code.

        Raises:
            OSError: No process can be made.
        """
        process = await self._take(order)
        self._refill()
        return await process.wait()

    async def finished(self, process: WarmProcess) -> int:
        """Wait for the end of a process that was given an order; return its exit code."""
        try:
            return await process.wait()
        finally:
            if process.flow_run_id is not None and process.returncode is not None:
                self._busy.pop(process.flow_run_id, None)
            self._shrink()
            self._refill()

    async def _take(self, order: Order) -> WarmProcess:
        while True:
            process = self._idle.popleft() if self._idle else await self._fork()
            try:
                process.give(order)
            except OSError:
                self._logger.warning("The prepared process %s had died.", process.pid)
            else:
                return process

    def resize(self, scale: Scale) -> None:
        """Follow another scale from now on; no run is touched."""
        self.scale = scale
        self._wanted = min(max(self._wanted, scale.minimum), scale.maximum)
        self._refill()

    def _grow(self) -> None:
        busy = len(self._busy)
        if busy > self._wanted * self.scale.threshold:
            self._wanted = min(max(self._wanted + 1, busy), self.scale.maximum)
            self._low_since = None

    def _shrink(self) -> None:
        """Want one less, where the load has been low for long: low enough for one less, too."""
        if len(self._busy) > (self._wanted - 1) * self.scale.threshold:
            self._low_since = None
        elif self._low_since is None:
            self._low_since = time.monotonic()
        elif time.monotonic() - self._low_since > self.scale.patience_seconds:
            self._wanted = max(self._wanted - 1, self.scale.minimum)
            self._low_since = time.monotonic()

    def _refill(self) -> None:
        if self._open and (self._refilling is None or self._refilling.done()):
            self._refilling = asyncio.create_task(self._prepare())

    async def _prepare(self) -> None:
        """Have one process ready at any time, however many are busy."""
        try:
            while self._open and len(self._idle) < self._spare():
                self._idle.append(await self._fork())
        except OSError:
            self._logger.exception("can't make a process; the next run tries again")
        while len(self._idle) > self._spare():
            self._idle.pop().dismiss()

    def _spare(self) -> int:
        return max(self._wanted - len(self._busy), 1)

    async def _fork(self) -> WarmProcess:
        process, orders = await asyncio.get_running_loop().run_in_executor(
            self._forker, self._fork_now
        )
        return WarmProcess(process, orders)

    def _fork_now(self) -> tuple[BaseProcess, Connection]:
        ours, theirs = self._context.Pipe()
        with theirs:
            process = self._context.Process(target=main, args=(theirs, self._expected_settings))
            process.start()
        return process, ours


def describe(stats: Sequence[ProcessStats]) -> Sequence[Mapping[str, Any]]:
    """Write statistics as plain values, for a log or a dashboard."""
    return [
        {
            "pid": one.pid,
            "flow_run_id": None if one.flow_run_id is None else str(one.flow_run_id),
            "age_seconds": round(one.age_seconds, 1),
            "memory_mb": round(one.memory_bytes / 2**20, 1),
            "cpu_seconds": round(one.cpu_seconds, 2),
        }
        for one in stats
    ]
