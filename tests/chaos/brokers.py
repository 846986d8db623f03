"""The brokers that chaos strikes: a line each."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.fauxqs_server import FauxqsServer
from tests.servers.process import ServerProcess
from tests.servers.proxies.tcp_proxy import TcpProxy
from tests.servers.rabbitmq_server import RabbitMQServer
from tests.servers.redis_server import RedisServer


@dataclass(frozen=True, kw_only=True)
class BrokerKind:
    """A broker that is a server of its own."""

    #: Makes the server; the port is the one that clients shall use to reach it.
    make: Callable[[], ServerProcess]
    #: Whether its messages outlast a SIGKILL; an emulator's don't.
    keeps_messages: bool = True


BROKERS: Mapping[str, BrokerKind] = {
    "redis": BrokerKind(make=lambda: RedisServer(durable=True)),
    "rabbitmq": BrokerKind(make=RabbitMQServer),
    # An emulator, all in memory.
    "sqs": BrokerKind(make=FauxqsServer, keeps_messages=False),
}
#: Every provider; the embedded one is no server.
PROVIDERS: tuple[str, ...] = (*BROKERS, "embedded")


@dataclass(frozen=True)
class Struck:
    """A broker at work, and how to get at it."""

    #: How the test itself reaches it.
    url: str
    #: How consumers reach it: by a wire that can be cut.
    consumers_url: str
    #: None for the embedded broker.
    server: ServerProcess | None = None
    wire: TcpProxy | None = None


@contextmanager
def struck_broker(provider: str, folder: Path) -> Generator[Struck]:
    """Start a provider's broker, and lay a wire to it."""
    if provider == "embedded":
        url = f"embedded://{folder / 'queue.db'}"
        yield Struck(url, url)
        return
    with BROKERS[provider].make() as server:
        url, port = _reached_by(server)
        with TcpProxy(port) as wire:
            yield Struck(url, _by_way_of(wire.port, url, port), server, wire)


def _reached_by(server: ServerProcess) -> tuple[str, int]:
    """Only some kinds of servers are brokers, and these have a URL and a port."""
    attributes = vars(server)
    return str(attributes["url"]), int(attributes["port"])


def _by_way_of(wire: int, url: str, port: int) -> str:
    return url.replace(f":{port}", f":{wire}", 1)
