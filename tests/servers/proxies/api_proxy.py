"""A Prefect API that loses answers, spoils requests and fails on command."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

from tests.servers.ports import free_port
from tests.servers.proxies.loop_thread import LoopThread
from tests.servers.proxies.websocket_tunnel import tunnel

#: The endpoint that creates up to a hundred flow runs at once.
BULK_CREATE = "POST /deployments/{id}/create_flow_run/bulk"

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
# They concern one connection alone (RFC 9110, 7.6.1), or are set anew for the next one.
_HOP_BY_HOP = frozenset({"connection", "host", "keep-alive", "te", "transfer-encoding", "upgrade"})


@dataclass(kw_only=True)
class Fault:
    """What happens to the requests of an endpoint (None: of all), for a number of times."""

    endpoint: str | None
    times: int | None
    delay: float = 0
    status: int | None = None
    rewrite: Callable[[Any], Any] | None = None
    drop_answer: bool = False
    late_answer: float = 0


class ApiProxy:
    """Forwards all requests and websockets to a server, and does harm where it is told to.

    Endpoints are named as in `counts`: the method and the path below `/api`, with `{id}` for each
    UUID. A fault holds for a number of `times`, by default once; None is until `heal`.

    Args:
        upstream: The API's URL.

    Example:
        with ApiProxy(server.api_url) as proxy:
            proxy.drop_answer(BULK_CREATE)
            with server.current(api_url=proxy.api_url):
                ...
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream)._replace(path="").geturl()
        self._base = urlsplit(upstream).path
        self.port = free_port()
        self.api_url = f"http://127.0.0.1:{self.port}{self._base}"
        #: How often each endpoint was called, whatever became of the call.
        self.counts: Counter[str] = Counter()
        self._faults: list[Fault] = []
        self._thread = LoopThread("api-proxy")
        self._thread.run(self._open())

    def drop_answer(self, endpoint: str | None = None, *, times: int | None = 1) -> None:
        """Let the server do its work, then close the connection without an answer."""
        self._faults.append(Fault(endpoint=endpoint, times=times, drop_answer=True))

    def rewrite(
        self, function: Callable[[Any], Any], endpoint: str | None = None, *, times: int | None = 1
    ) -> None:
        """Send the server what the function makes of the decoded JSON body."""
        self._faults.append(Fault(endpoint=endpoint, times=times, rewrite=function))

    def answer(self, status: int, endpoint: str | None = None, *, times: int | None = 1) -> None:
        """Answer with this status in the server's stead."""
        self._faults.append(Fault(endpoint=endpoint, times=times, status=status))

    def delay(
        self, seconds: float, endpoint: str | None = None, *, times: int | None = None
    ) -> None:
        """Hold requests back for this long."""
        self._faults.append(Fault(endpoint=endpoint, times=times, delay=seconds))

    def heal(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    def delay_answer(
        self, seconds: float, endpoint: str | None = None, *, times: int | None = None
    ) -> None:
        """Let the server do its work at once, and hold the answer back for this long."""
        self._faults.append(Fault(endpoint=endpoint, times=times, late_answer=seconds))

    def close(self) -> None:
        """Stop listening, drop all connections, and end the thread."""
        self._thread.run(self._shut())
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

    async def _hold(self, seconds: float) -> None:
        """Wait; the end of the proxy ends the wait."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    async def _open(self) -> None:
        self._closing = asyncio.Event()
        # Bodies pass as they are, compressed or not, and without a limit in size or time.
        self._client = aiohttp.ClientSession(
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def _shut(self) -> None:
        self._closing.set()
        await self._runner.cleanup()
        await self._client.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        endpoint = f"{request.method} {_UUID.sub('{id}', request.path).removeprefix(self._base)}"
        self.counts[endpoint] += 1
        if request.headers.get("upgrade", "").lower() == "websocket":
            return await tunnel(request, self._client, self._target(request))
        body = await request.read()
        faults = self._due(endpoint)
        for fault in faults:
            if fault.delay:
                await self._hold(fault.delay)
            if fault.status is not None:
                return web.json_response({"detail": "by order of the test"}, status=fault.status)
            if fault.rewrite is not None:
                body = json.dumps(fault.rewrite(json.loads(body))).encode()
        return await self._forward(
            request,
            body,
            drop=any(fault.drop_answer for fault in faults),
            late=max((fault.late_answer for fault in faults), default=0),
        )

    def _due(self, endpoint: str) -> list[Fault]:
        """The faults that this request meets; each is used up by one time."""
        due = [fault for fault in self._faults if fault.endpoint in (None, endpoint)]
        for fault in due:
            if fault.times is not None:
                fault.times -= 1
        self._faults[:] = [fault for fault in self._faults if fault.times != 0]
        return due

    async def _forward(
        self, request: web.Request, body: bytes, *, drop: bool, late: float
    ) -> web.StreamResponse:
        headers = [
            (name, value)
            for name, value in request.headers.items()
            if name.lower() not in _HOP_BY_HOP | {"content-length"}
        ]
        try:
            async with self._client.request(
                request.method,
                self._target(request),
                headers=headers,
                data=body or None,
                allow_redirects=False,
            ) as upstream:
                if drop:
                    await upstream.read()
                    return _hang_up(request)
                if late:
                    await self._hold(late)
                return await _pass_on(upstream, request)
        except aiohttp.ClientError:  # the server is down: so is the connection to it
            return _hang_up(request)

    def _target(self, request: web.Request) -> URL:
        return URL(self._upstream + request.raw_path, encoded=True)


async def _pass_on(upstream: aiohttp.ClientResponse, request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(status=upstream.status, reason=upstream.reason)
    for name, value in upstream.headers.items():
        if name.lower() not in _HOP_BY_HOP:
            answer.headers.add(name, value)
    await answer.prepare(request)
    async for chunk in upstream.content.iter_any():
        await answer.write(chunk)
    await answer.write_eof()
    return answer


def _hang_up(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()  # which reaches nobody
