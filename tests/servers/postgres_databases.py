"""Databases of the tests' own on a PostgreSQL server, whoever runs that server."""

import asyncio
import importlib
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")


class PostgresDatabases:
    """Creates databases and drops all of them on `close`.

    Args:
        url: Of a database to administer from, by a role that may create databases, as in
            `postgresql://postgres@127.0.0.1:5432/postgres`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._created: list[str] = []

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create a database and return its URL (`postgresql+asyncpg://…`, as Prefect wants it).

        Args:
            name: Must not exist yet.
            template: A database to copy; nobody may be connected to it.
        """
        self._execute(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else ""))
        self._created.append(name)
        return urlsplit(self.url)._replace(scheme="postgresql+asyncpg", path=f"/{name}").geturl()

    def exists(self, name: str) -> bool:
        """Whether the server has a database of this name.

        Raises:
            OSError, asyncpg.PostgresError: It does not answer.
        """
        return bool(self._execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"))

    def rename(self, old: str, new: str) -> None:
        """Give a database its lasting name: it is no longer dropped on `close`."""
        self._execute(f'ALTER DATABASE "{old}" RENAME TO "{new}"')
        self._created.remove(old)

    def close(self) -> None:
        """Drop what was created, with whatever is still connected."""
        while self._created:
            self._execute(f'DROP DATABASE IF EXISTS "{self._created.pop()}" WITH (FORCE)')

    def _execute(self, statement: str) -> list[Any]:
        async def run() -> list[Any]:
            asyncpg: Any = importlib.import_module("asyncpg")  # which has no types
            connection = await asyncpg.connect(self.url, timeout=10)
            try:
                return await connection.fetch(statement)
            finally:
                await connection.close()

        return _in_a_thread(run())


def _in_a_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it to its end even where the caller's thread already has a running loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()
