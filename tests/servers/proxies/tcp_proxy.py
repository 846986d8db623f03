"""A wire that can be cut, clogged and slowed down."""

import asyncio
import socket
import struct
from types import TracebackType
from typing import Self

from tests.servers.ports import free_port
from tests.servers.proxies.loop_thread import LoopThread

_CHUNK = 65_536
# Linger on, for no time at all: closing sends RST and drops what is unsent; see socket(7).
_RESET = struct.pack("ii", 1, 0)


class TcpProxy:
    """Forwards a port of its own to a loopback port, until it is told otherwise.

    Example:
        with TcpProxy(redis.port) as proxy:
            client = Redis(port=proxy.port)
            proxy.cut()
    """

    def __init__(self, upstream_port: int) -> None:
        self.port = free_port()
        self._upstream_port = upstream_port
        self._delay = 0.0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = LoopThread("tcp-proxy")
        self.accept()

    @property
    def connections(self) -> int:
        """How many clients are connected through it."""
        return len(self._writers) // 2

    def cut(self) -> None:
        """Reset all connections, at both ends; new ones are taken as before."""
        self._thread.run(self._cut())

    def stall(self) -> None:
        """Keep connections open and taking new ones, and let nothing through."""
        self._thread.run(self._stall())

    def delay(self, seconds: float) -> None:
        """Hold back each piece of data, in both directions, for this long."""
        self._delay = seconds

    def refuse(self) -> None:
        """Refuse new connections; those that stand go on."""
        self._thread.run(self._refuse())

    def accept(self) -> None:
        """Take connections again after `refuse`."""
        self._thread.run(self._accept())

    def heal(self) -> None:
        """Undo everything; what was stalled arrives now."""
        self._thread.run(self._heal())

    def close(self) -> None:
        """Stop listening, reset what is connected, and end the thread."""
        self.refuse()
        self.cut()
        self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def _cut(self) -> None:
        for writer in self._writers:
            _reset(writer)

    async def _stall(self) -> None:
        self._flowing.clear()

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accept(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _heal(self) -> None:
        self._delay = 0.0
        self._flowing.set()
        await self._accept()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            _reset(writer)
            return
        both = {writer, upstream[1]}
        self._writers |= both
        try:
            await asyncio.gather(self._pump(reader, upstream[1]), self._pump(upstream[0], writer))
        except OSError:  # one end has gone: let the other one know
            for end in both:
                _reset(end)
        finally:
            self._writers -= both
            for end in both:
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            await asyncio.sleep(self._delay)
            await self._flowing.wait()
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    if connection.fileno() < 0:
        return  # that end has gone by itself
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
