"""Kafka topics, on a real Apache Kafka that is killed on the way."""

import asyncio
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from blocks.broker import Broker
from blocks.errors import BrokerRefusedError, BrokerUnavailableError
from blocks.kafka_broker import KafkaBroker
from tests.conformance.fixtures import Refusal, ServerHandle
from tests.conformance.suite import BrokerConformance
from tests.servers.certificates import CertificateAuthority
from tests.servers.kafka_server import KafkaServer
from tests.servers.ports import free_port


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("kafka") / "ca")


@pytest.fixture(scope="module")
def kafka(authority: CertificateAuthority) -> Iterator[KafkaServer]:
    """A Kafka with an entrance where one logs in, too."""
    with KafkaServer(certificate=authority.issue("server")) as server:
        yield server


class _Handle:
    """The server as the suite wants to harm it."""

    def __init__(self, server: KafkaServer) -> None:
        self._server = server

    async def kill(self) -> None:
        await asyncio.to_thread(self._server.kill)

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)


class TestKafkaBroker(BrokerConformance):
    @pytest.fixture
    def broker(self, kafka: KafkaServer) -> Broker:
        return KafkaBroker(servers=kafka.bootstrap)

    @pytest.fixture
    def server(self, kafka: KafkaServer) -> ServerHandle:
        return _Handle(kafka)

    @pytest.fixture
    def wrong_credentials(self, kafka: KafkaServer, authority: CertificateAuthority) -> Refusal:
        broker = KafkaBroker(
            servers=f"127.0.0.1:{kafka.login_port}",
            tls=True,
            tls_ca_file=str(authority.file),
            username="noa",
            password=SecretStr("wrong"),
        )
        return Refusal(broker, BrokerRefusedError, "check `username`")

    @pytest.fixture
    def unreachable(self) -> Refusal:
        broker = KafkaBroker(servers=f"127.0.0.1:{free_port()}")
        return Refusal(broker, BrokerUnavailableError, "check that it runs")
