"""SQS, standard and FIFO, on an emulator (fauxqs): Amazon was never asked.

fauxqs keeps everything in memory, so that it can't be killed and come back with its data. What the
suite calls the server is the way to it: it is cut and refused, and opens again.
"""

import asyncio
from collections.abc import Iterator

import pytest

from blocks.broker import Broker
from blocks.errors import BrokerRefusedError, BrokerUnavailableError
from blocks.sqs_broker import SqsBroker
from tests.conformance.fixtures import Refusal, ServerHandle
from tests.conformance.leases import LeaseConformance
from tests.conformance.suite import BrokerConformance
from tests.conformance.topics import TopicConformance
from tests.servers.fauxqs_server import REGION, FauxqsServer
from tests.servers.moto_server import MotoServer
from tests.servers.ports import free_port
from tests.servers.proxies.tcp_proxy import TcpProxy


@pytest.fixture(scope="module")
def fauxqs() -> Iterator[FauxqsServer]:
    with FauxqsServer() as server:
        yield server


@pytest.fixture(scope="module")
def way(fauxqs: FauxqsServer) -> Iterator[TcpProxy]:
    """The way to the emulator."""
    with TcpProxy(fauxqs.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def strict_moto() -> Iterator[MotoServer]:
    """The other emulator, which checks credentials."""
    with MotoServer() as server:
        server.demand_credentials()
        yield server


class _Way:
    """As much harm as can be done to a server that must not forget."""

    def __init__(self, proxy: TcpProxy) -> None:
        self._proxy = proxy

    async def kill(self) -> None:
        await asyncio.to_thread(self._proxy.refuse)
        await asyncio.to_thread(self._proxy.cut)

    async def start(self) -> None:
        await asyncio.to_thread(self._proxy.accept)


def _broker(port: int, *, fifo: bool) -> SqsBroker:
    return SqsBroker.from_url(
        f"sqs://test:test@{REGION}?endpoint=http://127.0.0.1:{port}&fifo={fifo}"
    )


class _SqsConformance(BrokerConformance):
    fifo = False

    @pytest.fixture
    def broker(self, way: TcpProxy) -> Broker:
        return _broker(way.port, fifo=self.fifo)

    @pytest.fixture
    def server(self, way: TcpProxy) -> ServerHandle:
        return _Way(way)

    @pytest.fixture
    def wrong_credentials(self, strict_moto: MotoServer) -> Refusal:
        broker = _broker(strict_moto.port, fifo=self.fifo)
        return Refusal(broker, BrokerRefusedError, "check `access_key_id`")

    @pytest.fixture
    def unreachable(self) -> Refusal:
        broker = _broker(free_port(), fifo=self.fifo)
        return Refusal(broker, BrokerUnavailableError, "check that it runs")


class _MotoConformance(LeaseConformance, TopicConformance):
    """Where moto differs in a way that matters: it obeys any handle that a message ever had.

    The rest of the suite isn't run on it: it has no lock between a delete and a send, and may lose
    what comes at the same time.
    """

    fifo = False

    @pytest.fixture
    def broker(self, moto_server: MotoServer) -> Broker:
        return _broker(moto_server.port, fifo=self.fifo)

    @pytest.fixture
    def server(self) -> ServerHandle:
        raise NotImplementedError

    @pytest.fixture
    def wrong_credentials(self) -> Refusal:
        raise NotImplementedError

    @pytest.fixture
    def unreachable(self) -> Refusal:
        raise NotImplementedError


class TestSqsStandardOnMoto(_MotoConformance):
    pass


class TestSqsFifoOnMoto(_MotoConformance):
    fifo = True


class TestSqsStandard(_SqsConformance):
    pass


class TestSqsFifo(_SqsConformance):
    fifo = True
