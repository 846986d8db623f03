"""The providers that are measured, each beside the bare client of the same server."""

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from blocks.broker import Broker
from blocks.embedded_broker import EmbeddedBroker
from blocks.rabbitmq_broker import RabbitMQBroker
from blocks.redis_broker import RedisBroker
from blocks.sqs_broker import SqsBroker
from tests.benchmarks.bare.client import BareClient
from tests.benchmarks.bare.rabbitmq_client import BareRabbitMQ
from tests.benchmarks.bare.redis_client import BareRedis
from tests.benchmarks.bare.sqlite_client import BareSqlite
from tests.benchmarks.bare.sqs_client import BareSqs
from tests.servers.fauxqs_server import FauxqsServer
from tests.servers.rabbitmq_server import RabbitMQServer
from tests.servers.redis_server import RedisServer


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A provider at work, and its peer on the same server."""

    broker: Broker
    bare: Callable[[], BareClient]


@contextmanager
def _embedded() -> Generator[Contender]:
    with TemporaryDirectory() as folder:
        yield Contender(
            broker=EmbeddedBroker(path=Path(folder) / "queue.db"),
            bare=lambda: BareSqlite(Path(folder) / f"{uuid4().hex}.db"),
        )


@contextmanager
def _redis() -> Generator[Contender]:
    with RedisServer() as server:
        yield Contender(broker=RedisBroker.from_url(server.url), bare=lambda: BareRedis(server.url))


@contextmanager
def _rabbitmq() -> Generator[Contender]:
    with RabbitMQServer() as server:
        yield Contender(
            broker=RabbitMQBroker.from_url(server.url), bare=lambda: BareRabbitMQ(server.url)
        )


@contextmanager
def _sqs() -> Generator[Contender]:
    """An emulator: what Amazon's service itself would need isn't measured."""
    with FauxqsServer() as server:
        endpoint = server.endpoint
        yield Contender(broker=SqsBroker.from_url(server.url), bare=lambda: BareSqs(endpoint))


CONTENDERS: Mapping[str, Callable[[], AbstractContextManager[Contender]]] = {
    "embedded": _embedded,
    "Redis": _redis,
    "RabbitMQ": _rabbitmq,
    "SQS (emulator)": _sqs,
}
