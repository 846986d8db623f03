"""Which network addresses a message may make this machine talk to.

Python's `is_global` alone is not enough: it knows nothing of the IPv4 address inside a NAT64
or 6to4 address, and which special ranges it knows depends on Python's release. IPv6 is
therefore judged by what *is* allocated for the Internet (2000::/3), not by what isn't.
Registry: https://www.iana.org/assignments/iana-ipv6-special-registry
"""

import re
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

IPAddress = IPv4Address | IPv6Address

_NAT64 = IPv6Network("64:ff9b::/96")
_INTERNET_V6 = IPv6Network("2000::/3")
_DOCUMENTATION_V6 = IPv6Network("3fff::/20")
_PROTOCOL_ASSIGNMENTS = IPv4Network("192.0.0.0/24")
_RELAY_ANYCAST = IPv4Network("192.88.99.0/24")
#: Azure's host answers every guest there, secrets included, on an address that looks public.
_AZURE_HOST = IPv4Address("168.63.129.16")

_NUMERIC_LABEL = re.compile(r"(?:[0-9]+|0[xX][0-9a-fA-F]*)")


def literal_address(host: str) -> IPAddress | None:
    """Read a host that is an address, in any form a resolver would take, else return None.

    Besides the usual notations that is `2130706433`, `0x7f000001`, `0177.0.0.1` and `127.1`:
    the C library reads all of them as 127.0.0.1, so the judgement must too.

    Raises:
        ValueError: The last label is a number, yet the whole is no address.
    """
    try:
        return ip_address(host)
    except ValueError:
        if not _NUMERIC_LABEL.fullmatch(host.rpartition(".")[2]):
            return None
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError as error:
        raise ValueError(f"{host!r} is neither a host name nor an address") from error


def embedded_ipv4(address: IPAddress) -> IPv4Address | None:
    """Find the IPv4 address a mapped, NAT64 or 6to4 address leads to.

    Teredo, IPv4-compatible and local-use NAT64 addresses are not unwrapped, since they are
    refused whatever they hold.
    """
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def why_not_public(address: IPAddress) -> str | None:
    """Say what kind of address this is, as in "a loopback address", or None for a public one."""
    inner = embedded_ipv4(address)
    if inner is not None:
        reason = why_not_public(inner)
        return reason and f"{reason} ({inner}) in an IPv6 address"
    return _special_kind(address)


def _special_kind(address: IPAddress) -> str | None:
    kinds = (
        (address.is_unspecified, "the unspecified address"),
        (address.is_loopback, "a loopback address"),
        (address.is_link_local, "a link-local address"),
        (address.is_multicast, "a multicast address"),
        (address.is_reserved, "a reserved address"),
        (address.is_private, "a private address"),
        (_is_special_by_range(address), "an address for special use"),
        (not address.is_global, "not a public address"),
    )
    return next((text for applies, text in kinds if applies), None)


def _is_special_by_range(address: IPAddress) -> bool:
    if isinstance(address, IPv4Address):
        in_range = address in _PROTOCOL_ASSIGNMENTS or address in _RELAY_ANYCAST
        return in_range or address == _AZURE_HOST
    return (
        address not in _INTERNET_V6 or address in _DOCUMENTATION_V6 or address.scope_id is not None
    )
