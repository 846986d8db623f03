"""Ways to a RabbitMQ: TLS, log-ins, virtual hosts, users with few rights."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from blocks.broker import Broker
from blocks.errors import BrokerConfigurationError, BrokerRefusedError
from blocks.message import Dead, Done, Message, Outcome
from blocks.providers import load_broker
from blocks.rabbitmq_broker import RabbitMQBroker
from tests.servers.certificates import Certificate, CertificateAuthority
from tests.servers.ports import free_port
from tests.servers.rabbitmq_server import RabbitMQServer

WAIT = timedelta(seconds=5)


class TlsServer(RabbitMQServer):
    """A RabbitMQ with a TLS listener, whose certificate can be exchanged."""

    def __init__(self, authority: CertificateAuthority, folder: Path) -> None:
        self.tls_port = free_port()
        self._shown = Certificate(folder / "shown.pem", folder / "shown.key")
        self._copy(authority.issue("server"))
        options = {
            "listeners.ssl.1": f"127.0.0.1:{self.tls_port}",
            "ssl_options.cacertfile": str(authority.file),
            "ssl_options.certfile": str(self._shown.certificate),
            "ssl_options.keyfile": str(self._shown.key),
            "ssl_options.verify": "verify_none",
        }
        # What the documentation gives to a consumer that makes nothing.
        rights = ("", "^(noa\\..*|amq\\.default)$", "^public-.*$")
        super().__init__(users={"guest-of-few": "rights"}, permissions=rights, options=options)

    def show(self, certificate: Certificate) -> None:
        """Show another certificate from now on."""
        self._copy(certificate)
        self.control("eval", "ssl:clear_pem_cache().")

    def _copy(self, certificate: Certificate) -> None:
        shutil.copy(certificate.certificate, self._shown.certificate)
        shutil.copy(certificate.key, self._shown.key)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("tls") / "trusted")


@pytest.fixture(scope="module")
def server(
    authority: CertificateAuthority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TlsServer]:
    with TlsServer(authority, tmp_path_factory.mktemp("shown")) as server:
        yield server


@pytest.fixture
def encrypted(server: TlsServer, authority: CertificateAuthority) -> RabbitMQBroker:
    """A broker that reaches the server by TLS, and trusts the authority."""
    broker = RabbitMQBroker.from_url(server.url.replace("amqp://", "amqps://"))
    host = f"127.0.0.1:{server.tls_port}"
    return broker.model_copy(update={"host": host, "tls_ca_file": str(authority.file)})


@pytest.fixture
def queue() -> str:
    return f"orders-{uuid4().hex}"


async def round_trip(broker: Broker, queue: str) -> None:
    """Publish, take, settle."""
    async with broker.connect() as session:
        await session.declare(queue)
        [published] = await session.publish(queue, [Message(body=b"x")])
        assert published.error is None
        [delivery] = await session.receive(queue, max_messages=1, wait=WAIT)
        [settled] = await session.settle([Outcome(delivery, Done())])
        assert settled.error is None


async def refusal(broker: Broker) -> str:
    """Demand that the broker is refused quickly, and return the text."""
    begin = time.monotonic()
    with pytest.raises(BrokerRefusedError) as told:
        async with broker.connect():
            pass
    assert time.monotonic() - begin < 3
    assert broker.address in str(told.value)
    return str(told.value)


async def test_a_certificate_of_a_private_authority_encrypts_where_it_is_trusted(
    encrypted: RabbitMQBroker, queue: str
):
    await round_trip(encrypted, queue)


async def test_a_url_leads_there_too(
    server: TlsServer, authority: CertificateAuthority, queue: str
):
    login = f"tests:{server.password.replace(' ', '%20')}"
    url = f"amqps://{login}@127.0.0.1:{server.tls_port}/?tls_ca_file={authority.file}"
    await round_trip(await load_broker(url), queue)


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    encrypted: RabbitMQBroker, tmp_path: Path
):
    stranger = CertificateAuthority(tmp_path / "stranger")
    for file in (None, str(stranger.file)):
        text = await refusal(encrypted.model_copy(update={"tls_ca_file": file}))
        assert "check `tls_ca_file`" in text


@pytest.mark.parametrize(
    ("name", "says"), [("expired", "expired"), ("elsewhere", "127.0.0.1")], ids=str
)
async def test_a_certificate_that_is_out_of_date_or_of_another_host_is_refused(
    server: TlsServer,
    authority: CertificateAuthority,
    encrypted: RabbitMQBroker,
    name: str,
    says: str,
):
    host = "127.0.0.1" if name == "expired" else "mq.example.com"
    server.show(authority.issue(name, host=host, expired=name == "expired"))
    try:
        text = await refusal(encrypted)
        assert says in text
        assert "until when the certificate is valid" in text
    finally:
        server.show(authority.issue("server"))


async def test_a_port_without_tls_is_told(server: TlsServer, encrypted: RabbitMQBroker):
    plain = encrypted.model_copy(update={"host": f"127.0.0.1:{server.port}"})
    assert "check `tls` and `port`" in await refusal(plain)


async def test_a_file_of_certificates_that_is_missing_is_told(encrypted: RabbitMQBroker):
    with pytest.raises(BrokerConfigurationError, match="`tls_ca_file`"):
        async with encrypted.model_copy(update={"tls_ca_file": "/nowhere.pem"}).connect():
            pass


async def test_a_wrong_password_is_refused_and_never_shown(server: TlsServer):
    broker = RabbitMQBroker.from_url(server.url)
    wrong = broker.model_copy(update={"password": SecretStr("hunter2")})
    text = await refusal(wrong)
    assert "check `username` and `password`" in text
    assert "hunter2" not in text


async def test_a_virtual_host_that_is_not_there_is_refused(server: TlsServer):
    broker = RabbitMQBroker.from_url(server.url).model_copy(update={"vhost": "nowhere"})
    assert "check `vhost`" in await refusal(broker)


async def test_a_user_who_may_make_nothing_uses_what_is_there_and_nothing_else(
    server: TlsServer, queue: str
):
    owner = RabbitMQBroker.from_url(server.url)
    public, private = f"public-{queue}", f"private-{queue}"
    async with owner.connect() as session:
        await session.declare(public)
        await session.declare(private)
    few = owner.model_copy(
        update={
            "username": "guest-of-few",
            "password": SecretStr("rights"),
            "declare": False,
        }
    )
    await round_trip(few, public)
    async with few.connect() as session:
        with pytest.raises(BrokerRefusedError, match="refused for user"):
            await session.receive(private, max_messages=1, wait=WAIT)
    async with few.model_copy(update={"declare": True}).connect() as session:
        with pytest.raises(BrokerRefusedError, match="give the user the permission"):
            await session.declare(public)


async def test_a_user_with_the_rights_of_the_documentation_can_do_everything(
    server: TlsServer, queue: str
):
    names = (
        "^(orders.*|noa\\..*)$",
        "^(orders.*|noa\\..*|amq\\.default)$",
        "^(orders.*|noa\\..*)$",
    )
    for command in (("add_user", "maker", "rights"), ("set_permissions", "maker", *names)):
        await asyncio.to_thread(server.control, *command)
    maker = {"username": "maker", "password": SecretStr("rights")}
    broker = RabbitMQBroker.from_url(server.url).model_copy(update=maker)
    await round_trip(broker, queue)
    async with broker.connect() as session:
        await session.subscribe(queue, "orders.#")
        [one] = await session.broadcast("orders.eu", [Message(body=b"topic")])
        delayed = Message(body=b"late", delay=timedelta(milliseconds=200))
        [two] = await session.publish(queue, [delayed])
        assert (one.error, two.error) == (None, None)
        dead = Dead(reason="failed", error="broke")
        for _ in range(2):
            [delivery] = await session.receive(queue, max_messages=1, wait=WAIT)
            [settled] = await session.settle([Outcome(delivery, dead)])
            assert settled.error is None
        letters = {letter.handle: None async for letter in session.browse_dead(queue)}
        assert len(await session.settle_dead(queue, letters)) == 2


async def test_what_was_declared_otherwise_is_told_and_taken_as_it_is_on_demand(
    server: TlsServer, queue: str
):
    broker = RabbitMQBroker.from_url(server.url)
    async with broker.connect() as session:
        await session.declare(queue)
    classic = broker.model_copy(update={"queue_type": "classic"})
    async with classic.connect() as session:
        with pytest.raises(BrokerRefusedError, match="set `queue_type` as it was"):
            await session.declare(queue)
    await round_trip(classic.model_copy(update={"declare": False}), queue)
