"""A deployed noa-flows: a server, everything that `deployments/apply.py` makes, and workers."""

import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from noa_flows.work_pools import read_work_pools
from tests.project import PROJECT
from tests.servers.prefect_server import PrefectServer
from tests.servers.prefect_worker import PrefectWorker

NOA = str(Path(sys.executable).parent / "noa")
PREFECT = str(Path(sys.executable).parent / "prefect")


@dataclass(frozen=True)
class Installation:
    """Commands and workers of an installation, all in one environment."""

    server: PrefectServer
    folder: Path

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings of noa-flows: the embedded broker, everything in one folder."""
        return {
            "NOA_PROVIDER__TYPE": "embedded",
            "NOA_PROVIDER__CONFIG__PATH": str(self.folder / "queue.db"),
            "NOA_REPORTS__OUTPUT_FOLDER": str(self.folder / "reports"),
            "NOA_STORAGE": str(self.folder / "storage"),
            "NOA_JOBS": '{"slow": "tests.jobs.slow_job:slow"}',
        }

    @property
    def environment(self) -> dict[str, str]:
        """What commands for the installation have to have."""
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
            **self.server.env(),
            **self.settings,
            # Jobs that only tests have.
            "PYTHONPATH": str(PROJECT),
        }

    def run(self, *command: str, folder: Path | None = None) -> str:
        """Run a command to its successful end, and return what it printed."""
        done = subprocess.run(
            command,
            cwd=folder or PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def apply(self) -> str:
        """Do what an operator does."""
        return self.run(sys.executable, str(PROJECT / "deployments" / "apply.py"))

    @contextmanager
    def worker(
        self, pool: str, *, limit: int = 2, settings: Mapping[str, str] | None = None
    ) -> Generator[PrefectWorker]:
        """Run a worker of the pool's kind in a folder that has nothing to do with the project."""
        elsewhere = self.folder / f"worker-{pool}"
        elsewhere.mkdir(exist_ok=True)
        environment = {**self.settings, "PYTHONPATH": str(PROJECT), **(settings or {})}
        kinds = {found.name: found.type for found in read_work_pools(PROJECT / "prefect.yaml")}
        with PrefectWorker(
            self.server,
            pool,
            sources=elsewhere,
            kind=kinds[pool],
            limit=limit,
            settings=environment,
        ) as worker:
            try:
                yield worker
            except AssertionError as failure:
                failure.add_note(f"The worker of {pool} wrote:\n{worker.log(200)}")
                raise
