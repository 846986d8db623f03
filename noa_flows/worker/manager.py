"""Warm workers from Python: start, scale, look, shut down."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import anyio

from noa_flows.errors import NoaError
from noa_flows.settings import get_settings
from noa_flows.worker.processes import Scale, describe
from noa_flows.worker.warm_worker import WarmWorker

_START_SECONDS: Final = 60


class WorkerManager:
    """A warm worker in a thread of this program, for programs that are their own supervisor.

    `prefect worker start --type warm` does the same as a program of its own. A script that uses
    this has to keep its start behind `if __name__ == "__main__":`, as with all `multiprocessing`.

    Args:
        pool: The work pool; made where it is missing.

    Example:
        >>> with WorkerManager("noa") as workers:  # doctest: +SKIP
        ...     workers.scale_workers(8)
        ...     workers.get_worker_stats()
    """

    def __init__(self, pool: str = "noa") -> None:
        self._pool = pool
        self._worker: WarmWorker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None

    def start_workers(self) -> None:
        """Start as many processes as the settings say, and return once they take runs.

        Raises:
            NoaError: It is running already, or could not start.
        """
        if self._thread is not None:
            raise NoaError("the workers are running already; use scale_workers()")
        self._ready.clear()
        self._error = None
        self._thread = threading.Thread(target=self._work, name="noa-workers", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_SECONDS) or self._error is not None:
            self._thread = None
            reason = self._error or f"nothing was heard of Prefect for {_START_SECONDS} s"
            raise NoaError(f"the workers could not start: {reason}") from self._error

    def scale_workers(self, count: int) -> None:
        """Have so many processes from now on, busy or ready; those at work end their runs first.

        Raises:
            NoaError: They aren't running, or the number isn't positive.
        """
        if count < 1:
            raise NoaError(f"count = {count}: give 1 or more, or shutdown()")
        worker, loop = self._running()
        threshold = get_settings().workers.scaling_threshold
        scale = Scale(minimum=count, maximum=count, threshold=threshold)
        loop.call_soon_threadsafe(worker.resize, scale)

    def get_worker_stats(self) -> Sequence[Mapping[str, Any]]:
        """Describe each process: pid, flow_run_id, age_seconds, memory_mb, cpu_seconds.

        Raises:
            NoaError: They aren't running.
        """
        worker, _ = self._running()
        return describe(worker.process_stats())

    def shutdown(self, timeout: float | None = None) -> None:
        """Take no more runs, let those at hand end, and stop.

        Args:
            timeout: Seconds after which what still runs is stopped, too; by default the setting
                `workers.drain_seconds`.
        """
        if self._thread is None or self._loop is None or self._worker is None:
            return
        patience = get_settings().workers.drain_seconds if timeout is None else timeout
        asyncio.run_coroutine_threadsafe(self._stop(patience), self._loop)
        self._thread.join()
        self._thread = self._loop = self._worker = self._task = None

    def __enter__(self) -> Self:
        self.start_workers()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def _running(self) -> tuple[WarmWorker, asyncio.AbstractEventLoop]:
        if self._worker is None or self._loop is None:
            raise NoaError("the workers aren't running; call start_workers() first")
        return self._worker, self._loop

    async def _stop(self, patience: float) -> None:
        assert self._worker is not None
        assert self._task is not None
        with anyio.move_on_after(patience):
            await self._worker.finish_runs()
        self._task.cancel()

    def _work(self) -> None:
        try:
            asyncio.run(self._live())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 — told to whoever waits for the start
            self._error = error
        self._ready.set()

    async def _live(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._worker = WarmWorker(work_pool_name=self._pool)
        await self._worker.start(printer=self._note_news)

    def _note_news(self, *_: object) -> None:
        """Take the worker's first message for what it is: that it has started."""
        self._ready.set()
