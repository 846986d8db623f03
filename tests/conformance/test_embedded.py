"""The embedded broker, held to the suite. It has no server: a process dies in mid-transaction."""

import asyncio
import sys
from pathlib import Path

import pytest

from blocks.broker import Broker
from blocks.embedded_broker import EmbeddedBroker
from blocks.errors import BrokerConfigurationError
from tests.conformance.fixtures import Refusal, ServerHandle
from tests.conformance.suite import BrokerConformance

_HALF_A_TRANSACTION = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
connection.execute("PRAGMA cache_spill = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("DELETE FROM messages")
connection.execute("INSERT INTO queues (name) VALUES (hex(zeroblob(10000000)))")
print("deleted", flush=True)
sys.stdin.read()
"""


class MidTransaction:
    """A process that has deleted every message, and is killed before it commits."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def kill(self) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _HALF_A_TRANSACTION, str(self._path)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"deleted\n"
        process.kill()
        await process.communicate()

    async def start(self) -> None:
        """There is no server to start: the next call of any process cleans up."""


class TestEmbeddedBroker(BrokerConformance):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "queue.db"

    @pytest.fixture
    def broker(self, path: Path) -> Broker:
        return EmbeddedBroker(path=path)

    @pytest.fixture
    def server(self, path: Path) -> ServerHandle:
        return MidTransaction(path)

    @pytest.fixture
    def wrong_credentials(self, tmp_path: Path) -> Refusal:
        letter = tmp_path / "letter.txt"
        letter.write_text("Dear reader, " * 1_000)
        broker = EmbeddedBroker(path=letter)
        return Refusal(broker, BrokerConfigurationError, says="not a SQLite database")

    @pytest.fixture
    def unreachable(self, tmp_path: Path) -> Refusal:
        (tmp_path / "file").touch()
        broker = EmbeddedBroker(path=tmp_path / "file" / "queue.db")
        return Refusal(broker, BrokerConfigurationError, says="may be written")
