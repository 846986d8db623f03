"""The embedded broker's own block: URLs, file, errors; the queue itself is held to the suite."""

import asyncio
import shutil
import sqlite3
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites.blocks import BlockStandardTestSuite

from blocks.embedded_broker import EmbeddedBroker
from blocks.errors import BrokerConfigurationError
from blocks.message import Message

AT_ONCE = timedelta(0)


@pytest.fixture
def broker(tmp_path: Path) -> EmbeddedBroker:
    return EmbeddedBroker(path=tmp_path / "queue.db")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def publish_one(broker: EmbeddedBroker) -> None:
    async with broker.connect() as session:
        await session.publish("jobs", [Message(body=b"kept")])


class TestEmbeddedBrokerBlock(BlockStandardTestSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return EmbeddedBroker

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """There is none, on purpose: the UI would fetch it from a foreign server."""
        assert block.get_block_type_slug() == "embedded-broker"
        assert block.__name__ == "EmbeddedBroker"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("embedded:///var/lib/noa/queue.db", "/var/lib/noa/queue.db"),
        ("embedded:queue.db", "queue.db"),
        ("embedded:folder/queue.db", "folder/queue.db"),
        ("embedded:///with%20blank%3F.db", "/with blank?.db"),
    ],
)
def test_a_url_names_an_absolute_or_a_relative_file(url: str, path: str):
    assert EmbeddedBroker.from_url(url).path == Path(path)


@pytest.mark.parametrize(
    "url",
    [
        "embedded:",
        "embedded:///",
        "embedded://queue.db",
        "embedded:///q.db?mode=ro",
        "embedded:q.db#1",
        "redis:q.db",
    ],
)
def test_a_url_that_names_no_file_or_more_than_a_file_says_how_to_write_it(url: str):
    with pytest.raises(BrokerConfigurationError, match=r"embedded:///absolute/path\.db"):
        EmbeddedBroker.from_url(url)


def test_the_address_is_a_url_that_leads_back_to_the_same_file(tmp_path: Path):
    broker = EmbeddedBroker(path=tmp_path / "odd #1?.db")
    assert broker.address.startswith("embedded:///")
    assert EmbeddedBroker.from_url(broker.address).path == broker.path


def test_the_address_of_a_relative_path_is_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert EmbeddedBroker(path=Path("queue.db")).address == f"embedded://{tmp_path}/queue.db"


async def test_the_folder_and_the_files_are_made_for_their_owner_alone(tmp_path: Path):
    broker = EmbeddedBroker(path=tmp_path / "new" / "folder" / "queue.db")
    async with broker.connect() as session:
        await session.publish("jobs", [Message(body=b"personal")])
        modes = {
            file.name: stat.S_IMODE(file.stat().st_mode) for file in broker.path.parent.iterdir()
        }
    assert modes == {"queue.db": 0o600, "queue.db-shm": 0o600, "queue.db-wal": 0o600}
    assert stat.S_IMODE(broker.path.parent.stat().st_mode) == 0o700


async def test_the_mode_that_somebody_gave_an_existing_file_is_kept(broker: EmbeddedBroker):
    await publish_one(broker)
    broker.path.chmod(0o660)
    await publish_one(broker)
    assert mode(broker.path) == 0o660


async def test_everything_is_on_the_disk_when_publish_returns(
    broker: EmbeddedBroker, tmp_path: Path
):
    async with broker.connect() as session:
        await session.publish("jobs", [Message(body=b"kept")])
        for suffix in ("", "-wal"):
            shutil.copy(f"{broker.path}{suffix}", tmp_path / f"copy.db{suffix}")
    async with EmbeddedBroker(path=tmp_path / "copy.db").connect() as session:
        [delivery] = await session.receive("jobs", max_messages=1, wait=AT_ONCE)
    assert delivery.body == b"kept"


async def test_a_file_of_a_newer_release_is_refused_with_the_remedy(broker: EmbeddedBroker):
    await publish_one(broker)
    connection = sqlite3.connect(broker.path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(BrokerConfigurationError, match=r"format 99.*upgrade"):
        await publish_one(broker)


async def test_a_file_of_an_older_release_keeps_what_it_holds_and_learns_the_rest(
    broker: EmbeddedBroker,
):
    await publish_one(broker)
    connection = sqlite3.connect(broker.path)
    connection.executescript("DROP TABLE subscriptions; PRAGMA user_version = 1")
    connection.close()
    await asyncio.gather(*(publish_one(broker) for _ in range(4)))
    async with broker.connect() as session:
        await session.subscribe("jobs", "news")
        await session.broadcast("news", [Message(body=b"new")])
        taken = await session.receive("jobs", max_messages=9, wait=AT_ONCE)
    assert [one.body for one in taken] == [b"kept"] * 5 + [b"new"]


@pytest.mark.parametrize("version", [0, 1, 2, 7])
async def test_the_database_of_another_application_is_left_alone(
    broker: EmbeddedBroker, version: int
):
    connection = sqlite3.connect(broker.path)
    connection.executescript(f"CREATE TABLE theirs (x); PRAGMA user_version = {version}")
    connection.close()
    before = broker.path.read_bytes()
    with pytest.raises(BrokerConfigurationError, match="another application"):
        await publish_one(broker)
    assert broker.path.read_bytes() == before


async def test_a_damaged_file_is_told_with_the_remedy(broker: EmbeddedBroker):
    async with broker.connect() as session:
        await session.publish("jobs", [Message(body=b"x" * 1_000) for _ in range(200)])
    content = bytearray(broker.path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    broker.path.write_bytes(content)
    with pytest.raises(BrokerConfigurationError, match=r"damaged.*\.recover"):
        await publish_one(broker)


async def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path):
    with pytest.raises(BrokerConfigurationError, match="can't be opened"):
        await publish_one(EmbeddedBroker(path=tmp_path))


async def test_a_file_on_a_read_only_file_system_is_told():
    with pytest.raises(BrokerConfigurationError, match="may be written"):
        await publish_one(EmbeddedBroker(path=Path("/proc/self/queue.db")))
