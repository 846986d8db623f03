"""Redis streams, on a real Redis that is killed on the way, as a user with the least rights."""

import asyncio
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from blocks.broker import Broker
from blocks.errors import BrokerRefusedError, BrokerUnavailableError
from blocks.redis_broker import RedisBroker
from tests.conformance.fixtures import Refusal, ServerHandle
from tests.conformance.suite import BrokerConformance
from tests.servers.ports import free_port
from tests.servers.redis_rights import user
from tests.servers.redis_server import RedisServer

USER, PASSWORD = "worker", "correct-horse"


@pytest.fixture(scope="module")
def durable_redis() -> Iterator[RedisServer]:
    """A Redis that has on its disk whatever it has answered for."""
    worker = user(USER, PASSWORD, "conformance-*", "orders.*:topic")
    with RedisServer(durable=True, password="another", users=[worker]) as server:
        yield server


class _Handle:
    """The server as the suite wants to harm it."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    async def kill(self) -> None:
        await asyncio.to_thread(self._server.kill)

    async def start(self) -> None:
        await asyncio.to_thread(self._server.start)


class TestRedisBroker(BrokerConformance):
    @pytest.fixture
    def broker(self, durable_redis: RedisServer) -> Broker:
        return RedisBroker(
            host="127.0.0.1",
            port=durable_redis.port,
            username=USER,
            password=SecretStr(PASSWORD),
        )

    @pytest.fixture
    def server(self, durable_redis: RedisServer) -> ServerHandle:
        return _Handle(durable_redis)

    @pytest.fixture
    def wrong_credentials(self, durable_redis: RedisServer) -> Refusal:
        broker = RedisBroker(
            host="127.0.0.1",
            port=durable_redis.port,
            username=USER,
            password=SecretStr("wrong"),
        )
        return Refusal(broker, BrokerRefusedError, "check `username` and `password`")

    @pytest.fixture
    def unreachable(self) -> Refusal:
        broker = RedisBroker(host="127.0.0.1", port=free_port())
        return Refusal(broker, BrokerUnavailableError, "check that it runs")
