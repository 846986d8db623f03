"""Certificates are checked against the host's name, although an address is connected to."""

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from noa_flows.errors import TemporaryJobError
from noa_flows.job_run import JobRun
from noa_flows.jobs.webhook_job import WebhookPayload, WebhookReceipt, deliver_webhook
from noa_flows.settings import Settings
from tests.integration.webhook_receiver import Receiver, respond


def write_certificate(folder: Path, name: str) -> Path:
    """Make a certificate for a host name, which signs itself, and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = folder / "certificate.pem"
    file.write_bytes(pem + certificate.public_bytes(Encoding.PEM))
    return file


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return write_certificate(tmp_path, "hooks.example")


def a_server_context(certificate: Path, seen: list[str | None]) -> ssl.SSLContext:
    def remember(_socket: object, name: str | None, _context: ssl.SSLContext) -> None:
        seen.append(name)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    context.sni_callback = remember
    return context


async def resolve(_host: str, _port: int) -> Sequence[str]:
    return ["127.0.0.1"]


async def deliver(url: str, ca_file: Path | None) -> WebhookReceipt:
    webhook = {"allowed_hosts": ["127.0.0.1"], "ca_file": ca_file}
    run = JobRun.for_test(settings=Settings.model_validate({"webhook": webhook}))
    payload = WebhookPayload(url=url, method="POST", retries=0)
    return await deliver_webhook(payload, run, resolve=resolve)


@pytest.mark.parametrize("dot", ["", "."])
async def test_the_handshake_and_the_host_header_name_the_host(certificate: Path, dot: str) -> None:
    seen: list[str | None] = []
    async with Receiver([respond(200)], a_server_context(certificate, seen)) as receiver:
        receipt = await deliver(f"https://hooks.example{dot}:{receiver.port}/", certificate)
    assert receipt.status == 200
    assert seen == ["hooks.example"]
    assert receiver.received[0].headers["host"] == f"hooks.example{dot}:{receiver.port}"


async def test_a_certificate_for_another_name_is_refused(certificate: Path) -> None:
    async with Receiver([respond(200)], a_server_context(certificate, [])) as receiver:
        with pytest.raises(TemporaryJobError, match=r"(?i)certificate"):
            await deliver(f"https://evil.example:{receiver.port}/", certificate)
    assert receiver.received == []


async def test_a_certificate_of_an_unknown_authority_is_refused(certificate: Path) -> None:
    async with Receiver([respond(200)], a_server_context(certificate, [])) as receiver:
        with pytest.raises(TemporaryJobError, match=r"(?i)certificate"):
            await deliver(f"https://hooks.example:{receiver.port}/", None)
    assert receiver.received == []
