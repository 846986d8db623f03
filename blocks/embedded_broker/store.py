"""The embedded broker's queue operations as SQL. Blocking: a session runs them in its thread."""

import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Final, NamedTuple

from blocks.embedded_broker import sql
from blocks.embedded_broker.database import scalar, transaction
from blocks.embedded_broker.rows import (
    DELAYED,
    READY,
    Receipt,
    Row,
    check_name,
    dead_letter,
    delivery,
    message_row,
    message_rows,
    moment,
    now_us,
    storable,
    to_us,
)
from blocks.embedded_broker.subscriptions import Subscriptions, check_subscription, check_topic
from blocks.errors import LeaseLostError
from blocks.message import (
    HIGHEST_PRIORITY,
    LOWEST_PRIORITY,
    Band,
    Dead,
    DeadLetter,
    Delivery,
    Depth,
    Done,
    Message,
    Outcome,
    Published,
    Release,
    Retry,
    Settled,
    Verdict,
    utc_now,
)

#: Pages (of 4 KiB) that stay in the file for reuse, and how many go back to the disk in one go.
_SPARE_PAGES: Final = 4_096
_VACUUM_PAGES: Final = 2_048


class Watch(NamedTuple):
    """What a session last saw of a database, to tell cheaply whether to look again."""

    #: Changes with every commit of another connection (https://www.sqlite.org/pragma.html).
    data_version: int
    #: Changes with every commit of this one.
    commits: int
    #: When the next delay or lease ends, in microseconds since 1970; None for never.
    next_due: int | None


class EmbeddedStore:
    """One connection, and the deliveries that it holds."""

    def __init__(self, connection: sqlite3.Connection, lease: timedelta) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._subscriptions = Subscriptions(connection)
        self._lease_us = to_us(lease)
        self._queues: dict[str, int] = {}
        self._held: set[Receipt] = set()
        self._commits = 0

    def close(self) -> None:
        """Give back what is held, and close the connection."""
        try:
            if self._held:
                self._give_back(set(self._held))
        finally:
            self._connection.close()

    def declare(self, queue: str) -> int:
        """The number of the queue, which is made where there is none."""
        if queue not in self._queues:
            check_name(queue)
            found = self._find(queue)
            self._queues[queue] = self._make(queue) if found is None else found
        return self._queues[queue]

    def publish(self, queue: str, messages: Sequence[Message]) -> Sequence[Published]:
        """Insert all that can be held, in one transaction."""
        queue_id = self.declare(queue)
        rows, outcomes = message_rows(messages, queue_id)
        if rows:
            with self._write():
                self._connection.executemany(sql.INSERT, rows)
        return outcomes

    def subscribe(self, queue: str, topic: str) -> None:
        """Remember that what is broadcast to the topic, or to those of a pattern, comes here."""
        check_subscription(topic)
        queue_id = self.declare(queue)
        with self._write():
            self._subscriptions.add(topic, queue_id)

    def broadcast(self, topic: str, messages: Sequence[Message]) -> Sequence[Published]:
        """Insert a copy for each subscriber of all that can be held, in one transaction."""
        check_topic(topic)
        rows, outcomes = message_rows(messages, queue=0)
        if rows:
            with self._write():
                for queue in self._subscriptions.queues_of(topic):
                    copies = [(queue, *row[1:]) for row in rows]
                    self._connection.executemany(sql.INSERT, copies)
        return outcomes

    def take(
        self, queue: str, max_messages: int, lease: int, lowest: Band = Band.LOW
    ) -> tuple[Sequence[Delivery], Watch]:
        """Lease what there is, and tell what to watch where there is nothing."""
        queue_id = self.declare(queue)
        # Read before looking, so that whatever comes after the look is noticed.
        data_version, commits = self._data_version(), self._commits
        asked = {"queue": queue_id, "now": now_us(), "lowest": lowest}
        rows: Sequence[Row] = []
        if self._execute(sql.ANYTHING, asked).fetchone()[0]:
            with self._write():
                rows = self._lease_rows(queue_id, max_messages, lease, lowest)
            self._held.update(Receipt(row[0], lease) for row in rows)
        next_due = None if rows else self._execute(sql.NEXT_DUE, asked).fetchone()[0]
        return [delivery(queue, row) for row in rows], Watch(data_version, commits, next_due)

    def is_stirred(self, watch: Watch) -> bool:
        """Whether anything has changed since; a microsecond's work."""
        return (
            self._data_version() != watch.data_version
            or self._commits != watch.commits
            or (watch.next_due is not None and now_us() >= watch.next_due)
        )

    def give_back(self, lease: int) -> None:
        """Release what was taken under this lease, without counting it."""
        if taken := {receipt for receipt in self._held if receipt.lease == lease}:
            self._give_back(taken)

    def settle(self, outcomes: Sequence[Outcome]) -> Sequence[Settled]:
        """Carry out all verdicts in one transaction."""
        settled: list[Settled] = []
        with self._write():
            for outcome in outcomes:
                held = self._carry_out(_receipt(outcome.delivery), outcome.verdict)
                error = None if held else _lost(outcome.delivery)
                settled.append(Settled(delivery=outcome.delivery, error=error))
        self._held.difference_update(_receipt(outcome.delivery) for outcome in outcomes)
        return settled

    def renew(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Push the end of the leases on, and return what was still held."""
        due = now_us() + self._lease_us
        with self._write():
            return [
                one
                for one in deliveries
                if self._execute(sql.RENEW, (due, *_receipt(one))).rowcount == 1
            ]

    def depth(self, queue: str) -> Depth:
        """Count from the indexes alone."""
        check_name(queue)
        asked = {"queue": self._find(queue), "now": now_us()}
        with transaction(self._connection, "DEFERRED"):
            ready, overdue, delayed, in_flight, dead = self._execute(sql.COUNTS, asked).fetchone()
            stamps = [row[0] for row in self._execute(sql.OLDEST_TIMED, asked)]
            for priority in range(HIGHEST_PRIORITY, LOWEST_PRIORITY + 1):
                seek = asked | {"priority": priority}
                stamps += self._execute(sql.OLDEST_READY, seek).fetchone() or ()
        known = [stamp for stamp in stamps if stamp is not None]
        return Depth(
            ready=ready + overdue,
            in_flight=in_flight,
            delayed=delayed,
            dead=dead,
            oldest_age=max(utc_now() - moment(min(known)), timedelta(0)) if known else None,
        )

    def browse_dead(self, provider: str, queue: str, after: int) -> Sequence[DeadLetter]:
        """One page of dead letters whose handle is above `after`, oldest first."""
        check_name(queue)
        rows = self._execute(sql.BROWSE_DEAD, (self._find(queue), after)).fetchall()
        return [dead_letter(provider, queue, row) for row in rows]

    def settle_dead(self, queue: str, fates: Mapping[str, Message | None]) -> Sequence[str]:
        """Remove and publish again in one transaction; a bad message stops it all."""
        queue_id = self.declare(queue)
        now = now_us()
        rows = {
            handle: message_row(message, queue_id, now)
            for handle, message in fates.items()
            if message is not None
        }
        with self._write():
            there = [
                handle
                for handle in fates
                if self._execute(sql.DELETE_DEAD, (handle, queue_id)).rowcount == 1
            ]
            self._connection.executemany(sql.INSERT, [rows[one] for one in there if one in rows])
        return there

    def shrink(self) -> None:
        """Return some free pages to the disk, where most of the file is free."""
        free = scalar(self._connection, "PRAGMA freelist_count")
        if free > _SPARE_PAGES and free * 2 > scalar(self._connection, "PRAGMA page_count"):
            # A step frees one page, and only `executescript` takes all steps.
            self._connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
            self._commits += 1

    def _write(self) -> AbstractContextManager[None]:
        self._commits += 1
        return transaction(self._connection)

    def _data_version(self) -> int:
        return scalar(self._connection, "PRAGMA data_version")

    def _find(self, queue: str) -> int | None:
        row = self._execute("SELECT id FROM queues WHERE name = ?", (queue,)).fetchone()
        return None if row is None else row[0]

    def _make(self, queue: str) -> int:
        with self._write():
            self._execute("INSERT INTO queues (name) VALUES (?) ON CONFLICT DO NOTHING", (queue,))
            found = self._find(queue)
        assert found is not None
        return found

    def _lease_rows(self, queue: int, max_messages: int, lease: int, lowest: Band) -> Sequence[Row]:
        now = now_us()
        values = {
            "queue": queue,
            "now": now,
            "due": now + self._lease_us,
            "lease": lease,
            "lowest": lowest,
            "limit": max_messages,
        }
        self._execute(sql.PROMOTE_DUE, values)
        expired = self._execute(sql.TAKE_EXPIRED, values).fetchall()
        values["limit"] -= len(expired)
        ready = self._execute(sql.TAKE_READY, values).fetchall() if values["limit"] else []
        # RETURNING promises no order.
        return [*sorted(expired, key=_rank), *sorted(ready, key=_rank)]

    def _carry_out(self, receipt: Receipt, verdict: Verdict) -> bool:
        """Whether the delivery was still held, and so the verdict was carried out."""
        match verdict:
            case Done():
                return self._execute(sql.DELETE, receipt).rowcount == 1
            case Retry(after=after):
                return self._put_back(receipt, after, uncounted=0)
            case Release(after=after):
                return self._put_back(receipt, after, uncounted=1)
            case Dead():
                why = (now_us(), verdict.reason, verdict.error, verdict.error_type, verdict.run_id)
                self._execute(sql.BURY, (*map(storable, why), *receipt))
                return self._execute(sql.DELETE, receipt).rowcount == 1

    def _put_back(self, receipt: Receipt, after: timedelta, *, uncounted: int) -> bool:
        state, due = (DELAYED, now_us() + to_us(after)) if after else (READY, 0)
        return self._execute(sql.PUT_BACK, (state, due, uncounted, *receipt)).rowcount == 1

    def _give_back(self, receipts: Iterable[Receipt]) -> None:
        with self._write():
            for receipt in receipts:
                self._put_back(receipt, timedelta(0), uncounted=1)
        self._held.difference_update(receipts)


def new_lease() -> int:
    """A fence that no other delivery has had; never 0, which means that nobody holds it."""
    return secrets.randbits(62) + 1


def _rank(row: Row) -> tuple[int, int]:
    seq, _, priority = row[:3]
    return priority, seq


def _receipt(delivery: Delivery) -> Receipt:
    receipt = delivery.receipt
    assert isinstance(receipt, Receipt), "a delivery of another provider"
    return receipt


def _lost(delivery: Delivery) -> LeaseLostError:
    return LeaseLostError(
        f"message {delivery.id} of queue {delivery.queue} is no longer held here: its lease ran"
        " out or it has been settled; renew more often, or raise `lease_seconds`"
    )
