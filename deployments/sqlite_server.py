"""Prefect's server on SQLite, kept from standing still for a minute.

    python deployments/sqlite_server.py --host 127.0.0.1 --port 4200

takes the options of `prefect server start`, and is that but for one thing: a cursor whose statement
failed is closed at once, in the thread that used it.

Until Python 3.12 such a cursor holds on to its statement, and resets it when it is collected as
garbage: in whatever thread that happens, waiting for the connection's mutex. Where this is the
event loop's thread, and the connection's own thread waits for the lock that a transaction of the
same server holds, that transaction waits for the event loop: all three until Prefect's
`busy_timeout` of 60 seconds is over. A statement fails on SQLite whenever an automation counts an
event while something else is written (`increment_bucket` in `prefect.server.events.triggers`).
"""

import sqlite3
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import Any, Self

from sqlalchemy import Engine, event


class _Cursor(sqlite3.Cursor):
    def execute(self, sql: str, parameters: Any = (), /) -> Self:
        try:
            return super().execute(sql, parameters)
        except sqlite3.Error:
            self.close()
            raise

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Self:
        try:
            return super().executemany(sql, parameters)
        except sqlite3.Error:
            self.close()
            raise


class _Connection(sqlite3.Connection):
    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)


def close_failed_cursors(engine: Engine | type[Engine] = Engine) -> None:
    """Let the SQLite connections that an engine opens from now on, or all engines, do so."""
    event.listen(engine, "do_connect", _use_our_connection)


def _use_our_connection(
    dialect: Any, _record: Any, _arguments: list[Any], options: dict[str, Any]
) -> None:
    if dialect.name == "sqlite":
        options["factory"] = _Connection


def main() -> None:
    """Start the server, and stay until it ends."""
    close_failed_cursors()
    (prefect,) = entry_points(group="console_scripts", name="prefect")
    sys.argv = ["prefect", "server", "start", *sys.argv[1:]]
    prefect.load()()


if __name__ == "__main__":
    main()
