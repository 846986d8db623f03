"""A receiver of webhooks on the loopback interface, which answers as a test tells it to."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any, Self

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Received:
    """A request as it came over the wire; names of headers are in lower case."""

    line: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Receiver:
    """Gives one prepared answer to each request, the last one for ever."""

    answers: list[Answer]
    tls: SSLContext | None = None
    received: list[Received] = field(default_factory=list[Received])
    port: int = 0
    _serving: list[asyncio.Task[Any]] = field(default_factory=list[asyncio.Task[Any]])

    @property
    def url(self) -> str:
        """The receiver's own URL, without a path."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            self._serving.append(task)
        try:
            self.received.append(await _read_request(reader))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _read_request(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
    pairs = [line.partition(": ") for line in head[1:] if line]
    headers = {name.lower(): value for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(line=head[0], headers=headers, body=body)


def respond(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
    """Answer at once, completely."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return answer


async def hang(_writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def trickle(writer: asyncio.StreamWriter) -> None:
    """Answer with a byte every few milliseconds, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def cut_in_the_body(writer: asyncio.StreamWriter) -> None:
    """Close the connection in the middle of the body."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()


async def cut_at_once(writer: asyncio.StreamWriter) -> None:
    """Close the connection without a word."""
    writer.transport.abort()


@dataclass
class Flood:
    """Answers with a gigabyte, and counts what it could send."""

    sent: int = 0

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        """Write until everything is sent, or the other side has had enough."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        part = b"x" * 65536
        while self.sent < 1073741824 and not writer.is_closing():
            writer.write(part)
            await writer.drain()
            self.sent += len(part)
