"""Prefect's server on SQLite, without two faults that Prefect has there.

    python deployments/sqlite_server.py --host 127.0.0.1 --port 4200

takes the options of `prefect server start`, and is that but for these two.

It stands still for a minute, now and then. Until Python 3.12 a cursor whose statement failed holds
on to it, and resets it when it is collected as garbage: in whatever thread that happens, waiting
for the connection's mutex. Where this is the event loop's thread, and the connection's own thread
waits for the lock that a transaction of the same server holds, that transaction waits for the event
loop: all three until Prefect's `busy_timeout` of 60 seconds is over. Here such a cursor is closed
at once, by the thread that used it.

And it refuses one write in six while a few runs are going on: a transaction that began by reading
can't write on SQLite once another has written, and Prefect answers 503. Its Python client tries
again, and its web pages don't: "Oops. Something went wrong." Here the server itself tries again.
"""

import asyncio
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from importlib.metadata import entry_points
from typing import Any, Final, Self

from fastapi import FastAPI
from prefect.server.api import server
from sqlalchemy import Engine, event
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
#: Seconds between one attempt at a refused write and the next.
_PAUSES: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


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


class RepeatRefusedWrites:
    """An ASGI middleware: does a write again that was answered 503, and so has changed nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._alone = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] not in _WRITES:
            await self._app(scope, receive, send)
            return
        body = await _whole_body(receive)
        async with self._alone:
            pass  # somebody's second attempt goes first
        answer = await self._attempt(scope, body, receive)
        if _is_refused(answer):
            async with self._alone:
                for pause in _PAUSES:
                    await asyncio.sleep(pause)
                    answer = await self._attempt(scope, body, receive)
                    if not _is_refused(answer):
                        break
        for message in answer:
            await send(message)

    async def _attempt(self, scope: Scope, body: bytes, receive: Receive) -> Sequence[Message]:
        """Let the server answer, and return the answer instead of sending it."""
        answer: list[Message] = []
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return unread.pop() if unread else await receive()

        async def record(message: Message) -> None:
            answer.append(message)

        # What the server writes into the scope is not for the next attempt.
        own_scope = {**scope, "state": dict(scope.get("state", {}))}
        try:
            await self._app(own_scope, replay, record)
        except Exception:
            # Starlette raises what it has answered for, to have it logged; Prefect has logged it.
            if not answer:
                raise
        return answer


def _is_refused(answer: Sequence[Message]) -> bool:
    return bool(answer) and answer[0]["status"] == HTTPStatus.SERVICE_UNAVAILABLE


async def _whole_body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def main() -> None:
    """Start the server as its command line does, and stay until it ends."""
    close_failed_cursors()
    create_app = server.create_app

    def create_patient_app(**options: Any) -> FastAPI:
        app = create_app(**options)
        app.add_middleware(RepeatRefusedWrites)
        return app

    server.create_app = create_patient_app
    (prefect,) = entry_points(group="console_scripts", name="prefect")
    sys.argv = ["prefect", "server", "start", *sys.argv[1:]]
    prefect.load()()


if __name__ == "__main__":
    main()
