"""HTTP over connections that only the host guard can open."""

import ssl
from types import TracebackType
from typing import Self

import httpx

from noa_flows.webhooks.addresses import IPAddress
from noa_flows.webhooks.host_guard import HostGuard


class GuardedTransport(httpx.AsyncBaseTransport):
    """Sends each request to an address the guard has judged, in the name of its host.

    The Host header and the name in the TLS handshake stay those of the URL, so certificates
    are checked against the name. Connections are not kept: each attempt is judged anew.

    Raises:
        ForbiddenHostError: The guard refuses the host.
        httpx.TransportError: The request could not be sent, or the answer not be read.
    """

    def __init__(self, guard: HostGuard, *, tls: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._http = httpx.AsyncHTTPTransport(
            verify=True if tls is None else tls,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._http.__aexit__(exc_type, exc_value, traceback)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Try the addresses of the host in turn until one can be connected to."""
        refused: httpx.TransportError = httpx.ConnectError("the host has no address")
        for address in await self._judged_addresses(request.url):
            try:
                return await self._http.handle_async_request(_aimed_at(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                refused = error
        raise refused

    async def _judged_addresses(self, url: httpx.URL) -> tuple[IPAddress, ...]:
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            return await self._guard.addresses(url.raw_host.decode("ascii"), port)
        except OSError as error:
            raise httpx.ConnectError(f"the host name could not be resolved: {error}") from error


def _aimed_at(request: httpx.Request, address: IPAddress) -> httpx.Request:
    name = request.url.raw_host.decode("ascii").rstrip(".")
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": name},
    )
