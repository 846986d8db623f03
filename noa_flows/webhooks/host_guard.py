"""The check between a name in a message and the address that is connected to."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv6Address, ip_address

from noa_flows.errors import PermanentJobError
from noa_flows.webhooks.addresses import IPAddress, literal_address, why_not_public
from noa_flows.webhooks.allowed_host import AllowedHost, canonical_host

#: Host name and port to addresses, as text. Raises `OSError` where there are none.
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]


class ForbiddenHostError(PermanentJobError):
    """A webhook names a host that leads to an address the operator didn't open."""


async def resolve_by_system(host: str, port: int) -> Sequence[str]:
    """Ask the resolver of the operating system, hosts file included."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


class HostGuard:
    """Turns a host into addresses that may be connected to.

    The name is resolved once, every address is judged, and the caller connects to exactly
    those. A second look-up, which could have another answer (DNS rebinding), never happens.
    """

    def __init__(
        self, allowed: Iterable[AllowedHost], resolve: Resolver = resolve_by_system
    ) -> None:
        self._allowed = tuple(allowed)
        self._resolve = resolve

    async def addresses(self, host: str, port: int) -> tuple[IPAddress, ...]:
        """Resolve and judge a host.

        Raises:
            ForbiddenHostError: One of its addresses is not public, and not allowed. One is
                enough: a name with a public and a private address is an attempt.
            OSError: The name has no address.
        """
        try:
            name = canonical_host(host)
            literal = literal_address(name)
        except ValueError as error:
            raise ForbiddenHostError(f"url: {error}; name a host that can be resolved") from error
        found = [literal] if literal else await self._look_up(name, port)
        for address in found:
            self._demand_reachable(name, address, port)
        return tuple(dict.fromkeys(_as_connected(address) for address in found))

    async def _look_up(self, name: str, port: int) -> list[IPAddress]:
        found = [ip_address(text) for text in await self._resolve(name, port)]
        if not found:
            raise OSError(f"the host {name!r} has no address")
        return found

    def _demand_reachable(self, name: str, address: IPAddress, port: int) -> None:
        reason = why_not_public(address)
        if reason is None or any(each.covers(name, address, port) for each in self._allowed):
            return
        target = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
        raise ForbiddenHostError(
            f"url: the host {name!r} is {address}, {reason}, and webhooks reach only public "
            f"addresses; if this one is meant, the operator adds '{target}' to the setting "
            "webhook.allowed_hosts"
        )


def _as_connected(address: IPAddress) -> IPAddress:
    """Connect to the IPv4 address itself where it came in its mapped form."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
