"""A Prefect process worker of the tests' own."""

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.servers.prefect_environment import prefect_environment
from tests.servers.prefect_server import PrefectServer
from tests.servers.process import ServerProcess


class PrefectWorker(ServerProcess):
    """`prefect worker start`, looking for work twice a second.

    Args:
        server: Whose work it does.
        pool: Made if it does not exist.
        sources: The folder it runs in, where flows' relative entrypoints are looked up.
        kind: The type of the worker and of a pool made for it.
        limit: How many flow runs at the same time.
        name: As it appears in Prefect; by default Prefect's choice.
        settings: Further environment variables of the worker and its flow runs.
        folder: Where the log is kept.
    """

    def __init__(
        self,
        server: PrefectServer,
        pool: str,
        *,
        sources: Path,
        kind: str = "process",
        limit: int | None = None,
        name: str | None = None,
        settings: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(folder=folder)
        self._sources = sources
        self._options = {"--pool": pool, "--type": kind, "--limit": limit, "--name": name}
        self._settings = {
            **server.env(),
            "PREFECT_WORKER_QUERY_SECONDS": "0.5",
            **(settings or {}),
        }

    @property
    def working_folder(self) -> Path:
        return self._sources

    def command(self) -> list[str]:
        options = [
            word
            for option, value in self._options.items()
            if value is not None
            for word in (option, str(value))
        ]
        return [sys.executable, "-m", "prefect", "worker", "start", *options]

    def environment(self) -> dict[str, str]:
        return {**prefect_environment(self.folder), **self._settings}

    def ready(self) -> bool:
        return "started!" in self.log()

    def kill_alone(self) -> None:
        """End the worker by SIGKILL and let the flow runs that it started go on."""
        os.kill(self.pid, signal.SIGKILL)
        self._leader().wait()
