"""Ways to a Redis: TLS, a Unix socket, users with rights, a cluster."""

import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from blocks.errors import BrokerRefusedError, BrokerUnavailableError
from blocks.message import Done, Message, Outcome
from blocks.redis_broker import RedisBroker
from tests.servers.ports import free_port
from tests.servers.redis_rights import user
from tests.servers.redis_server import RedisServer
from tests.waiting import eventually

WAIT = timedelta(seconds=5)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself; its key lies beside it."""
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    kind = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    places = ["-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run(["openssl", "req", *kind, *names, *places], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def tls_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(certificate: Path, tls_port: int) -> Iterator[RedisServer]:
    """A Redis with all entrances open."""
    options = {
        "tls-port": str(tls_port),
        "tls-cert-file": str(certificate),
        "tls-key-file": str(certificate.with_suffix(".key")),
        "tls-ca-cert-file": str(certificate),
        "tls-auth-clients": "no",
        "unixsocket": str(certificate.with_suffix(".sock")),
    }
    with RedisServer(options=options) as server:
        yield server


async def round_trip(broker: RedisBroker, queue: str) -> None:
    """Publish, take, settle."""
    async with broker.connect() as session:
        await session.publish(queue, [Message(body=b"x")])
        [delivery] = await session.receive(queue, max_messages=1, wait=WAIT)
        [settled] = await session.settle([Outcome(delivery, Done())])
        assert settled.error is None


async def test_a_certificate_that_is_trusted_encrypts(
    server: RedisServer, certificate: Path, tls_port: int
):
    assert server.running
    broker = RedisBroker(host="127.0.0.1", port=tls_port, tls=True, tls_ca_file=str(certificate))
    await round_trip(broker, "orders-tls")


async def test_a_certificate_that_nobody_vouches_for_is_refused(server: RedisServer, tls_port: int):
    assert server.running
    broker = RedisBroker(host="127.0.0.1", port=tls_port, tls=True)
    with pytest.raises(BrokerRefusedError, match="check `tls_ca_file`"):
        await round_trip(broker, "orders-tls")


async def test_a_unix_socket_leads_there_too(certificate: Path, server: RedisServer):
    assert server.running
    await round_trip(
        RedisBroker.from_url(f"unix://{certificate.with_suffix('.sock')}"), "orders-socket"
    )


async def test_a_missing_unix_socket_is_unavailable(tmp_path: Path):
    with pytest.raises(BrokerUnavailableError, match=r"nobody\.sock"):
        await round_trip(RedisBroker(unix_socket=str(tmp_path / "nobody.sock")), "orders")


async def test_a_user_may_use_the_queues_that_its_rights_name_and_no_others(server: RedisServer):
    async with Redis(port=server.port) as redis:
        rights = user("worker", "rights", "orders*").split()[1:]
        await redis.execute_command("ACL", "SETUSER", *rights)
    broker = RedisBroker(
        host="127.0.0.1", port=server.port, username="worker", password=SecretStr("rights")
    )
    await round_trip(broker, "orders-acl")
    with pytest.raises(BrokerRefusedError, match="ACL"):
        await round_trip(broker, "payroll")


async def test_a_database_that_is_not_there_is_refused(server: RedisServer):
    broker = RedisBroker(host="127.0.0.1", port=server.port, db=4_000)
    with pytest.raises(BrokerRefusedError, match="check `db`"):
        await round_trip(broker, "orders")


async def test_on_a_cluster_a_queue_name_in_braces_keeps_its_keys_together():
    with RedisServer(options={"cluster-enabled": "yes"}) as node:
        async with Redis(port=node.port) as redis:
            await redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)

            async def complete() -> bool:
                probe = await redis.execute_command("SET", "probe", "")  # pyright: ignore[reportUnknownVariableType]
                return probe is not None

            await eventually(complete, description="the cluster to be complete")
        broker = RedisBroker(host="127.0.0.1", port=node.port)
        await round_trip(broker, f"{{{uuid4().hex}}}")
        with pytest.raises(BrokerRefusedError, match="in braces"):
            await round_trip(broker, "orders")
