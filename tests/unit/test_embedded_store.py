"""The embedded broker's store: plans that stay flat, a full disk, a lock, the fence, the file."""

import asyncio
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from blocks.broker import Session
from blocks.embedded_broker import EmbeddedBroker, database, sql
from blocks.embedded_broker.database import explained, open_database
from blocks.embedded_broker.rows import MAX_BODY_BYTES
from blocks.embedded_broker.store import EmbeddedStore, new_lease
from blocks.errors import BrokerUnavailableError, LeaseLostError, MessageTooLargeError
from blocks.message import Dead, Done, Message, Outcome, Retry
from tests.waiting import eventually

AT_ONCE = timedelta(0)
LEASE = timedelta(seconds=30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
def broker(path: Path) -> EmbeddedBroker:
    return EmbeddedBroker(path=path)


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_database(path, "embedded:test")
    yield connection
    connection.close()


@pytest.fixture
def store(connection: sqlite3.Connection) -> EmbeddedStore:
    return EmbeddedStore(connection, LEASE)


def size(path: Path) -> int:
    return path.stat().st_size


async def drain(session: Session, batch: int = 50) -> int:
    """Take and settle until nothing is left; return how many there were."""
    total = 0
    while taken := await session.receive("jobs", max_messages=batch, wait=AT_ONCE):
        total += len(taken)
        await session.settle([Outcome(one, Done()) for one in taken])
    return total


@pytest.mark.parametrize(
    "statement",
    [
        sql.ANYTHING,
        sql.NEXT_DUE,
        sql.PROMOTE_DUE,
        sql.TAKE_EXPIRED,
        sql.TAKE_READY,
        sql.DELETE,
        sql.RENEW,
        sql.PUT_BACK,
        sql.BURY,
        sql.COUNTS,
        sql.OLDEST_READY,
        sql.OLDEST_TIMED,
        sql.BROWSE_DEAD,
        sql.DELETE_DEAD,
        sql.SUBSCRIBERS,
        sql.PATTERNS,
    ],
)
def test_no_statement_walks_over_the_table_or_sorts(connection: sqlite3.Connection, statement: str):
    names = ["queue", "now", "due", "lease", "limit", "priority", "lowest"]
    values: dict[str, int] | tuple[int, ...] = (1,) * statement.count("?")
    values = values or dict.fromkeys(names, 1)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    assert not [step for step in plan if step.startswith(("SCAN messages", "SCAN dead"))]
    assert not [step for step in plan if step == "SCAN subscriptions"]
    assert not [step for step in plan if "TEMP B-TREE" in step]


def test_a_full_disk_is_told_and_the_store_is_good_again_after_room_was_made(
    connection: sqlite3.Connection, store: EmbeddedStore
):
    store.declare("jobs")
    [[pages]] = connection.execute("PRAGMA page_count")
    connection.execute(f"PRAGMA max_page_count = {pages + 10}")
    batch = [Message(body=b"x" * 1_000) for _ in range(100)]
    with (
        pytest.raises(BrokerUnavailableError, match=r"embedded:test.*make room") as told,
        explained("embedded:test"),
    ):
        store.publish("jobs", batch)
    assert isinstance(told.value.__cause__, sqlite3.OperationalError)
    assert store.depth("jobs").ready == 0
    connection.execute(f"PRAGMA max_page_count = {pages + 10_000}")
    store.publish("jobs", batch)
    assert store.depth("jobs").ready == 100


async def test_a_file_that_somebody_keeps_locked_is_told_and_is_good_again_afterwards(
    broker: EmbeddedBroker, path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    async with broker.connect() as session:
        await session.declare("jobs")
        locker = sqlite3.connect(path, isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        with pytest.raises(BrokerUnavailableError, match="locked by another process"):
            await session.publish("jobs", [Message(body=b"")])
        assert (await session.depth("jobs")).ready == 0
        locker.execute("ROLLBACK")
        locker.close()
        await session.publish("jobs", [Message(body=b"")])
        assert (await session.depth("jobs")).ready == 1


async def test_many_sessions_may_make_the_same_new_file_at_once(broker: EmbeddedBroker):
    async def publish() -> None:
        async with broker.connect() as session:
            await session.publish("jobs", [Message(body=b"")])

    await asyncio.gather(*[publish() for _ in range(8)])
    async with broker.connect() as session:
        assert (await session.depth("jobs")).ready == 8


async def test_neighbours_who_take_without_pause_all_get_their_share(broker: EmbeddedBroker):
    async with broker.connect() as publisher, broker.connect() as one, broker.connect() as other:
        await publisher.publish("jobs", [Message(body=b"") for _ in range(2_000)])
        parts = await asyncio.gather(drain(one, 5), drain(other, 5))
    assert sum(parts) == 2_000
    assert min(parts) > 100


def test_a_verdict_on_an_earlier_delivery_to_the_same_session_is_refused(
    connection: sqlite3.Connection,
):
    store = EmbeddedStore(connection, AT_ONCE)
    store.publish("jobs", [Message(body=b"")])
    [early], _ = store.take("jobs", 1, new_lease())
    [late], _ = store.take("jobs", 1, new_lease())
    assert (late.id, late.deliveries) == (early.id, 2)
    [refused] = store.settle([Outcome(early, Done())])
    assert isinstance(refused.error, LeaseLostError)
    assert "lease_seconds" in str(refused.error)
    [settled] = store.settle([Outcome(late, Done())])
    assert settled.error is None


def test_an_expired_delivery_that_nobody_took_can_still_be_settled(
    connection: sqlite3.Connection,
):
    store = EmbeddedStore(connection, AT_ONCE)
    store.publish("jobs", [Message(body=b"")])
    [expired], _ = store.take("jobs", 1, new_lease())
    assert store.depth("jobs").ready == 1
    [settled] = store.settle([Outcome(expired, Done())])
    assert settled.error is None


def test_an_error_text_that_is_not_unicode_does_not_keep_its_message_from_the_dead(
    store: EmbeddedStore,
):
    store.publish("jobs", [Message(body=b"")])
    deliveries, _ = store.take("jobs", 1, new_lease())
    verdict = Dead(reason="failed", error="half \ud800 a pair, \x00 and all")
    [settled] = store.settle([Outcome(deliveries[0], verdict)])
    assert settled.error is None
    [letter] = store.browse_dead("embedded-broker", "jobs", 0)
    assert letter.error == "half \\ud800 a pair, \x00 and all"


def test_a_redrive_of_a_message_that_cannot_be_held_leaves_all_letters(store: EmbeddedStore):
    store.publish("jobs", [Message(body=b""), Message(body=b"")])
    deliveries, _ = store.take("jobs", 2, new_lease())
    store.settle([Outcome(one, Dead(reason="failed", error="")) for one in deliveries])
    first, second = store.browse_dead("embedded-broker", "jobs", 0)
    large = Message(body=bytes(MAX_BODY_BYTES + 1))
    with pytest.raises(MessageTooLargeError):
        store.settle_dead("jobs", {first.handle: None, second.handle: large})
    assert store.depth("jobs").dead == 2


def test_the_handle_of_a_discarded_letter_never_names_another(store: EmbeddedStore):
    handles: set[str] = set()
    for _ in range(3):
        store.publish("jobs", [Message(body=b"")])
        deliveries, _ = store.take("jobs", 1, new_lease())
        store.settle([Outcome(deliveries[0], Dead(reason="failed", error=""))])
        [letter] = store.browse_dead("embedded-broker", "jobs", 0)
        store.settle_dead("jobs", {letter.handle: None})
        handles.add(letter.handle)
    assert len(handles) == 3


def test_asking_for_the_depth_of_an_unknown_queue_makes_none(
    connection: sqlite3.Connection, store: EmbeddedStore
):
    depth = store.depth("nobody")
    assert (depth.ready, depth.in_flight, depth.delayed, depth.dead) == (0, 0, 0, 0)
    assert depth.oldest_age is None
    assert connection.execute("SELECT count(*) FROM queues").fetchone() == (0,)


def test_the_oldest_is_found_among_all_priorities_held_and_due(store: EmbeddedStore):
    store.publish("jobs", [Message(body=b"", priority=9)])
    first = store.depth("jobs").oldest_age
    store.publish("jobs", [Message(body=b"", priority=0)])
    assert first is not None
    assert (store.depth("jobs").oldest_age or AT_ONCE) > first
    deliveries, _ = store.take("jobs", 2, new_lease())
    assert (store.depth("jobs").oldest_age or AT_ONCE) > first
    # From now on their age counts anew.
    store.settle([Outcome(one, Retry(timedelta(microseconds=1))) for one in deliveries])
    assert (store.depth("jobs").oldest_age or AT_ONCE) > AT_ONCE
    assert store.depth("jobs").ready == 2


async def test_the_file_gives_its_room_back_when_the_queue_has_been_drained(
    broker: EmbeddedBroker, path: Path
):
    async with broker.connect() as session:
        for _ in range(10):
            await session.publish("jobs", [Message(body=bytes(1_000_000)) for _ in range(5)])
        assert await drain(session) == 50

        async def has_shrunk() -> bool:
            await session.receive("jobs", max_messages=1, wait=AT_ONCE)
            return size(path) < 20_000_000

        await eventually(has_shrunk, description="most of 50 MB to go back to the disk")


async def test_room_of_settled_messages_is_used_again(broker: EmbeddedBroker, path: Path):
    sizes: list[int] = []
    for _ in range(4):
        async with broker.connect() as session:
            await session.publish("jobs", [Message(body=bytes(100_000)) for _ in range(50)])
            await drain(session)
        sizes.append(size(path))
    assert sizes[3] <= sizes[0] * 1.1


async def test_what_a_receive_takes_while_it_is_cancelled_is_given_back_at_once(
    broker: EmbeddedBroker,
):
    async with broker.connect() as fickle, broker.connect() as other:
        for _ in range(20):
            await other.publish("jobs", [Message(body=b"")])
            wait = timedelta(seconds=10)
            receiving = asyncio.create_task(fickle.receive("jobs", max_messages=1, wait=wait))
            await asyncio.sleep(0)  # the thread has been asked, and has not answered yet
            receiving.cancel()
            [taken] = await other.receive("jobs", max_messages=1, wait=wait)
            assert taken.deliveries == 1
            await other.settle([Outcome(taken, Done())])


async def test_a_closed_session_says_so(broker: EmbeddedBroker):
    async with broker.connect() as session:
        pass
    with pytest.raises(BrokerUnavailableError, match=r"closed; open another"):
        await session.depth("jobs")
