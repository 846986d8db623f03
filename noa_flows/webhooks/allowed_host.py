"""Where the operator lets webhooks go although the address is not public."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, Self

import httpx

from noa_flows.webhooks.addresses import IPAddress, embedded_ipv4

LAST_PORT: Final = 65_535

_WITH_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:]+):(?P<port>[0-9]{1,5})")
_HOST_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


def canonical_host(host: str) -> str:
    """Bring a host into the one form in which hosts are compared.

    Raises:
        ValueError: It is no host: empty, or with characters no host name has.
    """
    name = host.strip("[]").rstrip(".").lower()
    if not name.isascii():
        name = httpx.URL(scheme="http", host=name).raw_host.decode("ascii")
    if ":" in name:
        return str(IPv6Address(name))
    if not _HOST_NAME.fullmatch(name):
        raise ValueError(f"{host[:100]!r} is not a host name")
    return name


@dataclass(frozen=True, kw_only=True)
class AllowedHost:
    """One entry of the operator's list: `host`, `host:port`, an address or a network.

    A host name covers whatever it resolves to; a network covers every name that resolves
    into it.

    >>> AllowedHost.parse("hooks.internal:8443").port
    8443
    """

    name: str | None = None
    network: IPv4Network | IPv6Network | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an entry as the operator writes it.

        Raises:
            ValueError: It is none of the four forms.
        """
        parts = _WITH_PORT.fullmatch(text)
        host, port = (parts["host"], int(parts["port"])) if parts else (text, None)
        if port is not None and not 0 < port <= LAST_PORT:
            raise ValueError(f"{text!r} has a port that does not exist")
        try:
            return cls(network=ip_network(host.strip("[]")), port=port)
        except ValueError:
            return cls(name=canonical_host(host), port=port)

    def covers(self, name: str, address: IPAddress, port: int) -> bool:
        """Tell whether a connection to this address, made for this host name, is meant."""
        if self.port is not None and self.port != port:
            return False
        if self.network is None:
            return self.name == name
        inner = embedded_ipv4(address)
        return address in self.network or (inner is not None and inner in self.network)
