"""One request, one answer, within a time and a size."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import httpx


@dataclass(frozen=True, kw_only=True)
class OutgoingRequest:
    """What is sent in every attempt alike; each adds its own headers."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the receiver said."""

    status: int
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    #: The body as it came, up to the limit.
    body: bytes
    #: False if the body went on beyond the limit.
    complete: bool


@dataclass(frozen=True, kw_only=True)
class Sender:
    """Makes one attempt at a request.

    It uses a bare transport, not an HTTP client: nothing here follows a redirect, keeps a cookie,
    reads a proxy from the environment, or logs a URL with its query.
    """

    transport: httpx.AsyncBaseTransport
    #: For the attempt as a whole. HTTP libraries limit each single read instead, so a receiver
    #: that sends a byte a second would hold them for ever.
    timeout: timedelta
    connect_timeout: timedelta
    #: How much of the answer's body is read, in bytes.
    read_limit: int

    async def send(self, request: OutgoingRequest, extra_headers: Mapping[str, str]) -> Answer:
        """Send the request and read the answer.

        Raises:
            TimeoutError: There is no complete answer in time.
            httpx.TransportError: The connection could not be made, or broke.
            ForbiddenHostError: The guard refuses the host.
        """
        try:
            async with asyncio.timeout(self.timeout.total_seconds()):
                return await self._exchange(request, extra_headers)
        except (TimeoutError, httpx.TimeoutException) as error:
            connecting = isinstance(error, httpx.ConnectTimeout)
            limit = self.connect_timeout if connecting else self.timeout
            what = "connection" if connecting else "complete answer"
            raise TimeoutError(f"no {what} within {limit.total_seconds():g} s") from error

    async def _exchange(self, request: OutgoingRequest, extra: Mapping[str, str]) -> Answer:
        timeout = httpx.Timeout(
            self.timeout.total_seconds(), connect=self.connect_timeout.total_seconds()
        )
        outgoing = httpx.Request(
            request.method,
            request.url,
            headers={**request.headers, **extra, "Accept-Encoding": "identity"},
            content=request.body,
            extensions={"timeout": timeout.as_dict()},
        )
        response = await self.transport.handle_async_request(outgoing)
        try:
            body, complete = await self._read(response)
        finally:
            await response.aclose()
        return Answer(
            status=response.status_code, headers=response.headers, body=body, complete=complete
        )

    async def _read(self, response: httpx.Response) -> tuple[bytes, bool]:
        """Read the body as it comes, so that a compressed one can't unfold."""
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > self.read_limit:
                return bytes(body[: self.read_limit]), False
        return bytes(body), True
