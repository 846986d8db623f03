"""A PostgreSQL of the tests' own."""

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from tests.servers.ports import free_port
from tests.servers.postgres_databases import PostgresDatabases
from tests.servers.process import ServerProcess
from tests.servers.programs import INITDB, POSTGRES

# Writes reach the kernel before they are answered, which outlives every kill of a process; only the
# power supply could still lose them.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "off",
    "log_checkpoints": "off",
}


class PostgresServer(ServerProcess):
    """A fresh cluster on a free loopback port, where everyone is trusted.

    Args:
        folder: Where data and log are kept. Root's PostgreSQL runs as another user, who must be
            able to reach it: not below pytest's temporary folders.
    """

    stop_signal = signal.SIGINT  # "fast": does not wait for clients to leave

    def __init__(self, *, folder: Path | None = None) -> None:
        super().__init__(folder=folder)
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.databases = PostgresDatabases(self.url)
        self._data = self.folder / "data"

    def command(self) -> list[str]:
        if not self._data.exists():
            self._create_cluster()
        settings = [word for key, value in _SETTINGS.items() for word in ("-c", f"{key}={value}")]
        server = [str(POSTGRES.require()), "-D", str(self._data), "-p", str(self.port)]
        return [*_as_ordinary_user(), *server, *settings]

    def ready(self) -> bool:
        return self.databases.exists("postgres")

    def _create_cluster(self) -> None:
        initdb = str(INITDB.require())
        if user := _ordinary_user():
            shutil.chown(self.folder, user)
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync"]
        subprocess.run(
            [*_as_ordinary_user(), initdb, "-D", str(self._data), *options],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )


def _ordinary_user() -> str | None:
    """Whom root hands PostgreSQL to, since it refuses to run as root; None for anyone else."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _as_ordinary_user() -> list[str]:
    user = _ordinary_user()
    if user is None:
        return []
    # `setpriv` replaces itself by the program, so that signals and the process id are the server's.
    return ["setpriv", f"--reuid={user}", f"--regid={pwd.getpwnam(user).pw_gid}", "--init-groups"]
