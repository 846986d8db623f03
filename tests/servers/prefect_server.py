"""A Prefect API server of the tests' own."""

import os
import sys
import warnings
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from unittest.mock import patch

import httpx

from tests.servers.ports import free_port
from tests.servers.prefect_database import sqlite_database
from tests.servers.prefect_environment import prefect_environment, prefect_settings
from tests.servers.process import ServerProcess


class PrefectServer(ServerProcess):
    """The real server, in the command that `prefect server start --background` runs itself.

    It starts in the three seconds that its imports take.

    Args:
        database_url: A migrated database, as `postgres_database` makes them, or another server's;
            without one, a new SQLite file.
        ui: Whether to serve Prefect's web pages too.
        settings: Further settings by their environment variables, as in
            {"PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "1"}.
        folder: Where data and log are kept.
    """

    def __init__(
        self,
        *,
        database_url: str | None = None,
        ui: bool = False,
        settings: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(folder=folder)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api_url = f"{self.url}/api"
        self.database_url = database_url or sqlite_database(self.folder / "prefect.db")
        self._settings = {
            "PREFECT__SERVER_FINAL": "1",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database_url,
            # The database is a copy in which both have been done.
            "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
            "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
            "PREFECT_SERVER_UI_ENABLED": str(ui),
            # By default a folder inside the installed package, which parallel servers would share.
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(self.folder / "ui"),
            **(settings or {}),
        }

    def command(self) -> list[str]:
        app = ["--factory", "prefect.server.api.server:create_app"]
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        return [sys.executable, "-m", "uvicorn", *app, *address, "--timeout-keep-alive", "5"]

    def environment(self) -> dict[str, str]:
        return {**prefect_environment(self.folder), **self._settings}

    def ready(self) -> bool:
        return httpx.get(f"{self.api_url}/health", timeout=5).is_success

    def env(self, *, api_url: str | None = None) -> dict[str, str]:
        """The settings of a client in another process.

        Args:
            api_url: Where to find the server, if not directly: that of a proxy.
        """
        return {**prefect_settings(self.folder), "PREFECT_API_URL": api_url or self.api_url}

    @contextmanager
    def current(self, *, api_url: str | None = None) -> Generator[Self]:
        """Make it the server of this process, in all its threads, and of those it starts."""
        from prefect.context import refresh_global_settings_context

        try:
            with patch.dict(os.environ, self.env(api_url=api_url)), warnings.catch_warnings():
                # Prefect's engine drops a client for each flow run without closing its connection.
                warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
                refresh_global_settings_context()
                yield self
                _send_what_waits()
        finally:
            refresh_global_settings_context()


def _send_what_waits() -> None:
    """Hand over logs and events while the server they belong to is still the current one."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    # Under a running loop, as in an async test, they would want to be awaited instead of waiting.
    with ThreadPoolExecutor(1) as thread:
        for service in (APILogWorker, EventsWorker):
            thread.submit(service.drain_all, timeout=10).result()
