"""Where webhooks may go: every form of an address that is not public is refused."""

from collections.abc import Sequence

import httpx
import pytest

from noa_flows.errors import PermanentJobError
from noa_flows.webhooks.allowed_host import AllowedHost
from noa_flows.webhooks.guarded_transport import GuardedTransport
from noa_flows.webhooks.host_guard import ForbiddenHostError, HostGuard

REFUSED_ADDRESSES = {
    "loopback": "127.0.0.1",
    "loopback, the whole network": "127.255.0.9",
    "loopback v6": "::1",
    "unspecified": "0.0.0.0",
    "unspecified v6": "::",
    "private 10/8": "10.0.0.1",
    "private 172.16/12": "172.31.255.254",
    "private 192.168/16": "192.168.1.1",
    "unique local": "fd00:ec2::254",
    "link-local": "169.254.169.254",
    "link-local v6": "fe80::1",
    "link-local v6 with a zone": "fe80::1%eth0",
    "public v6 with a zone": "2606:4700::1111%eth0",
    "site-local": "fec0::1",
    "carrier-grade NAT": "100.64.0.1",
    "multicast": "224.0.0.1",
    "multicast, global scope": "233.252.0.1",
    "multicast v6": "ff02::1",
    "multicast v6, global scope": "ff0e::1",
    "broadcast": "255.255.255.255",
    "reserved": "240.0.0.1",
    "documentation": "192.0.2.1",
    "documentation v6": "2001:db8::1",
    "documentation v6, the newer": "3fff::1",
    "benchmarking": "198.18.0.1",
    "protocol assignments": "192.0.0.170",
    "6to4 relay": "192.88.99.1",
    "host of the Azure cloud": "168.63.129.16",
    "mapped loopback": "::ffff:127.0.0.1",
    "mapped private": "::ffff:10.0.0.1",
    "compatible loopback": "::127.0.0.1",
    "compatible public": "::8.8.8.8",
    "translated loopback": "::ffff:0:127.0.0.1",
    "NAT64 loopback": "64:ff9b::127.0.0.1",
    "NAT64 metadata": "64:ff9b::169.254.169.254",
    "local NAT64 loopback": "64:ff9b:1::127.0.0.1",
    "local NAT64 public": "64:ff9b:1::8.8.8.8",
    "6to4 loopback": "2002:7f00:1::",
    "6to4 private": "2002:0a00:0001::1",
    "Teredo": "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "discard only": "100::1",
    "segment routing": "5f00::1",
}

#: Hosts as they stand in a URL, which resolvers read as an address.
REFUSED_HOSTS = {
    "decimal": "2130706433",
    "decimal, private": "167772161",
    "hexadecimal": "0x7f000001",
    "hexadecimal, upper case": "0X7F000001",
    "hexadecimal parts": "0x7f.0x0.0x0.0x1",
    "octal parts": "0177.0.0.01",
    "octal": "017700000001",
    "short": "127.1",
    "shorter": "0",
    "three parts": "192.168.257",
    "dotted at the end": "127.0.0.1.",
    "a zone as URLs write it": "fe80::1%25eth0",
    "decimal, dotted at the end": "2130706433.",
}

PUBLIC_ADDRESSES = [
    "8.8.8.8",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
]


class FakeResolver:
    """Gives the next of the prepared answers, and counts how often it was asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self.answers.pop(0)


def guard(resolver: FakeResolver | None = None, *, allowed: Sequence[str] = ()) -> HostGuard:
    return HostGuard([AllowedHost.parse(text) for text in allowed], resolver or FakeResolver())


@pytest.mark.parametrize("address", REFUSED_ADDRESSES.values(), ids=REFUSED_ADDRESSES)
async def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(ForbiddenHostError, match=r"allowed_hosts"):
        await guard().addresses(address, 80)


@pytest.mark.parametrize("address", REFUSED_ADDRESSES.values(), ids=REFUSED_ADDRESSES)
async def test_a_name_that_resolves_to_such_an_address_is_refused(address: str) -> None:
    with pytest.raises(ForbiddenHostError, match=r"'hooks\.example' is .*hooks\.example:443"):
        await guard(FakeResolver([address])).addresses("hooks.example", 443)


@pytest.mark.parametrize("host", REFUSED_HOSTS.values(), ids=REFUSED_HOSTS)
async def test_a_number_that_stands_for_such_an_address_is_refused(host: str) -> None:
    with pytest.raises(ForbiddenHostError):
        await guard().addresses(host, 80)


@pytest.mark.parametrize("host", ["256.256.256.256", "1.2.3.4.5", "example.0x", "99999999999"])
async def test_a_number_that_is_no_address_is_refused_without_a_look_up(host: str) -> None:
    with pytest.raises(ForbiddenHostError, match="neither a host name nor an address"):
        await guard().addresses(host, 80)


@pytest.mark.parametrize("host", ["", ".", "a b", "a%00b", "a/b", "x" * 64])
async def test_what_is_no_host_name_is_refused_without_a_look_up(host: str) -> None:
    with pytest.raises(ForbiddenHostError):
        await guard().addresses(host, 80)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
async def test_a_public_address_is_reached(address: str) -> None:
    found = await guard(FakeResolver([address])).addresses("hooks.example", 443)
    assert [str(each) for each in found] == [
        address.removeprefix("::ffff:").replace("64:ff9b::8.8.8.8", "64:ff9b::808:808")
    ]


async def test_a_name_of_this_machine_is_refused_with_the_resolver_of_the_system() -> None:
    with pytest.raises(ForbiddenHostError, match="a loopback address"):
        await HostGuard([]).addresses("localhost", 80)


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    with pytest.raises(ForbiddenHostError, match=r"10\.0\.0\.1, a private address"):
        await guard(FakeResolver(["8.8.8.8", "10.0.0.1"])).addresses("hooks.example", 443)


async def test_the_name_is_asked_for_in_one_canonical_form() -> None:
    resolver = FakeResolver(["8.8.8.8"])
    await guard(resolver).addresses("Hooks.Example.", 443)
    assert resolver.asked == [("hooks.example", 443)]


@pytest.mark.parametrize(
    "entry",
    [
        "internal.example",
        "INTERNAL.example.",
        "internal.example:8080",
        "10.1.2.3",
        "10.1.2.3:8080",
        "10.1.0.0/16",
    ],
)
async def test_a_host_that_the_operator_allowed_is_reached(entry: str) -> None:
    allowing = guard(FakeResolver(["10.1.2.3"]), allowed=[entry])
    found = await allowing.addresses("internal.example", 8080)
    assert [str(each) for each in found] == ["10.1.2.3"]


@pytest.mark.parametrize(
    "entry",
    ["other.example", "example", "internal.example:80", "10.1.2.3:80", "10.2.0.0/16", "::/0"],
)
async def test_an_entry_allows_nothing_beside_itself(entry: str) -> None:
    with pytest.raises(ForbiddenHostError):
        await guard(FakeResolver(["10.1.2.3"]), allowed=[entry]).addresses("internal.example", 8080)


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("[::1]:80", "::1"),
        ("::1", "::1"),
        ("fd00::/8", "fd12::1"),
        ("127.0.0.0/8", "::ffff:127.0.0.1"),
        ("10.0.0.0/8", "64:ff9b::10.0.0.1"),
    ],
)
async def test_an_allowed_network_covers_the_ipv6_forms_of_its_addresses(
    entry: str, address: str
) -> None:
    assert await guard(allowed=[entry]).addresses(address, 80)


@pytest.mark.parametrize("entry", ["", "10.1.2.3/8", "a b", "host:0", "host:70000", "http://host"])
def test_an_entry_that_is_none_of_the_forms_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        AllowedHost.parse(entry)


def test_an_international_name_is_compared_in_its_ascii_form() -> None:
    assert AllowedHost.parse("Bücher.example").name == "xn--bcher-kva.example"


async def test_a_name_without_an_address_is_a_connection_error() -> None:
    async with GuardedTransport(guard(FakeResolver([]))) as transport:
        with pytest.raises(httpx.ConnectError, match="no address"):
            await transport.handle_async_request(httpx.Request("POST", "http://gone.example/"))


async def test_a_refusal_is_final_and_names_the_remedy() -> None:
    with pytest.raises(PermanentJobError, match=r"adds '\[::1\]:8443' to the setting webhook\."):
        await guard().addresses("[::1]", 8443)
