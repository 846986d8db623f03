"""Real servers for all tests, started when the first test asks for them.

Each process of a parallel run has its own. A missing program fails the tests that need it and says
what to install. A test that kills a server starts one for itself: `with RedisServer() as redis:`.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.servers.fauxqs_server import FauxqsServer
from tests.servers.moto_server import MotoServer
from tests.servers.postgres_databases import PostgresDatabases
from tests.servers.postgres_server import PostgresServer
from tests.servers.prefect_database import postgres_database
from tests.servers.prefect_server import PrefectServer
from tests.servers.rabbitmq_server import RabbitMQServer
from tests.servers.redis_server import RedisServer

# Where nobody looks for new examples, the same ones are tried each time.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis that the tests started."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    """Any Redis: the one that NOA_TEST_REDIS_URL names, or else the tests' own."""
    if url := os.environ.get("NOA_TEST_REDIS_URL"):
        return url
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[RabbitMQServer]:
    """A RabbitMQ that the tests started."""
    with RabbitMQServer() as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_url(request: pytest.FixtureRequest) -> str:
    """Any RabbitMQ: the one that NOA_TEST_RABBITMQ_URL names, or else the tests' own."""
    if url := os.environ.get("NOA_TEST_RABBITMQ_URL"):
        return url
    server: RabbitMQServer = request.getfixturevalue("rabbitmq_server")
    return server.url


@pytest.fixture(scope="session")
def fauxqs_server() -> Iterator[FauxqsServer]:
    """A fast emulator of SQS that the tests started."""
    with FauxqsServer() as server:
        yield server


@pytest.fixture(scope="session")
def sqs_endpoint(request: pytest.FixtureRequest) -> str:
    """Any SQS, SNS and S3: what NOA_TEST_SQS_ENDPOINT names, or else the tests' own emulator."""
    if endpoint := os.environ.get("NOA_TEST_SQS_ENDPOINT"):
        return endpoint
    server: FauxqsServer = request.getfixturevalue("fauxqs_server")
    return server.endpoint


@pytest.fixture(scope="session")
def moto_server() -> Iterator[MotoServer]:
    """A thorough emulator of AWS that the tests started."""
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that the tests started."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_databases(request: pytest.FixtureRequest) -> Iterator[PostgresDatabases]:
    """Databases on the server that NOA_TEST_POSTGRES_URL names, or else on the tests' own."""
    url = os.environ.get("NOA_TEST_POSTGRES_URL")
    databases = PostgresDatabases(url or request.getfixturevalue("postgres_server").url)
    yield databases
    databases.close()


@pytest.fixture(scope="session")
def prefect_server(postgres_databases: PostgresDatabases) -> Iterator[PrefectServer]:
    """Prefect on PostgreSQL: on SQLite it answers 503 now and then, as "database is locked"."""
    with PrefectServer(database_url=postgres_database(postgres_databases)) as server:
        yield server


@pytest.fixture
def prefect_api(prefect_server: PrefectServer) -> Iterator[PrefectServer]:
    """The same, as the server of the test's own process."""
    with prefect_server.current():
        yield prefect_server
