"""RabbitMQ, with quorum and with classic queues, on a real server that is killed on the way."""

import asyncio
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from blocks.broker import Broker
from blocks.errors import BrokerRefusedError, BrokerUnavailableError
from blocks.rabbitmq_broker import RabbitMQBroker
from tests.conformance.fixtures import Refusal, ServerHandle
from tests.conformance.suite import BrokerConformance
from tests.servers.ports import free_port
from tests.servers.rabbitmq_server import RabbitMQServer


@pytest.fixture(scope="module")
def mortal_rabbitmq() -> Iterator[RabbitMQServer]:
    """A RabbitMQ that is killed on the way."""
    with RabbitMQServer() as server:
        yield server


class _Handle:
    """The server as the suite wants to harm it."""

    def __init__(self, server: RabbitMQServer) -> None:
        self._server = server

    async def kill(self) -> None:
        # RabbitMQ keeps what it was told of queues in memory for some seconds, and says so nowhere.
        await asyncio.to_thread(self._server.settle)
        await asyncio.to_thread(self._server.kill)

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)


class _RabbitMQConformance(BrokerConformance):
    @pytest.fixture
    def server(self, mortal_rabbitmq: RabbitMQServer) -> ServerHandle:
        return _Handle(mortal_rabbitmq)

    @pytest.fixture
    def wrong_credentials(self, broker: RabbitMQBroker) -> Refusal:
        wrong = broker.model_copy(update={"password": SecretStr("wrong")})
        return Refusal(wrong, BrokerRefusedError, "check `username` and `password`")

    @pytest.fixture
    def unreachable(self) -> Refusal:
        broker = RabbitMQBroker(host="127.0.0.1", port=free_port())
        return Refusal(broker, BrokerUnavailableError, "check that it runs")


class TestQuorumQueues(_RabbitMQConformance):
    @pytest.fixture
    def broker(self, mortal_rabbitmq: RabbitMQServer) -> Broker:
        return RabbitMQBroker.from_url(mortal_rabbitmq.url)


class TestClassicQueues(_RabbitMQConformance):
    @pytest.fixture
    def broker(self, mortal_rabbitmq: RabbitMQServer) -> Broker:
        return RabbitMQBroker.from_url(f"{mortal_rabbitmq.url}?queue_type=classic")
