"""Warm workers that are started again when they die, as by an operator's supervisor."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from tests.servers.prefect_server import PrefectServer
from tests.servers.prefect_worker import PrefectWorker
from tests.servers.process import ServerFailedError

_LOOK_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2


class SupervisedWorkers:
    """Workers of the pool `noa`; the runs of one that dies are left alone.

    Args:
        server: Whose work they do.
        folder: Where they keep their logs, and their runs' folders.
        count: How many there are.
        limit: Runs that each executes at the same time.
        settings: Further environment variables.
        numbers: Draws how long it is until a dead one is started again.
    """

    def __init__(
        self,
        server: PrefectServer,
        folder: Path,
        *,
        count: int,
        limit: int,
        settings: Mapping[str, str],
        numbers: Random,
    ) -> None:
        self._server, self._folder = server, folder
        self._count, self._limit = count, limit
        #: Where runs have their folders, so that their processes can be told from all others.
        self.runs = folder / "runs"
        self._settings = {**settings, "TMPDIR": str(self.runs)}
        self._numbers = numbers
        self._started: list[PrefectWorker] = []
        self._living: dict[int, PrefectWorker] = {}
        self._closing = False
        self._keepers: list[asyncio.Task[None]] = []
        #: Process ids of those that have ended, and the last lines of their logs.
        self.ended: dict[int, str] = {}

    async def __aenter__(self) -> Self:
        self.runs.mkdir()
        self._keepers = [asyncio.create_task(self._keep(n)) for n in range(self._count)]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing = True
        await asyncio.wait(self._keepers)
        for worker in self._started:
            await asyncio.to_thread(worker.close)
        for keeper in self._keepers:
            keeper.result()

    def living(self) -> Sequence[int]:
        """The process ids of the workers that are at work."""
        return [worker.pid for worker in self._living.values() if worker.running]

    def wrote(self, text: str) -> int:
        """How many workers have this text in their logs."""
        return sum(text in worker.log_path.read_text(errors="replace") for worker in self._started)

    def abandoned(self, run: str) -> bool:
        """Whether a worker that has died had begun a run, which goes on without it."""
        logs = [worker.log_path for worker in self._started if worker.pid in self.ended]
        return any(run in log.read_text(errors="replace") for log in logs)

    async def _keep(self, place: int) -> None:
        """Have a worker in one place until the end."""
        generation = 0
        while not self._closing:
            generation += 1
            worker = self._make(f"worker-{place}-{generation:02}")
            self._started.append(worker)
            try:
                await asyncio.to_thread(worker.start)
            except ServerFailedError:
                continue  # Prefect's server is away
            self._living[place] = worker
            while worker.running and not self._closing:  # noqa: ASYNC110 — a process is looked at
                await asyncio.sleep(_LOOK_SECONDS)
            del self._living[place]
            if not self._closing:
                self.ended[worker.pid] = worker.log()
                await asyncio.sleep(self._numbers.uniform(0, _LONGEST_PAUSE_SECONDS))

    def _make(self, name: str) -> PrefectWorker:
        folder = self._folder / name
        folder.mkdir()
        return PrefectWorker(
            self._server,
            "noa",
            sources=folder,
            kind="warm",
            limit=self._limit,
            name=name,
            settings=self._settings,
            folder=folder,
        )
