"""sqlite3: insert; then lease by UPDATE … RETURNING, and delete: one transaction a batch."""

import sqlite3
from pathlib import Path

from tests.benchmarks.bare.client import BATCH, BODY


class BareSqlite:
    """See `BareClient`."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for statement in (
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "CREATE TABLE queue (id INTEGER PRIMARY KEY, body BLOB, holder TEXT)",
            "CREATE INDEX free ON queue (id) WHERE holder IS NULL",
        ):
            self._database.execute(statement)

    def publish(self, messages: int) -> None:
        for _ in range(messages // BATCH):
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT INTO queue (body) VALUES (?)", [(BODY,)] * BATCH)
            self._database.execute("COMMIT")

    def drain(self, messages: int) -> None:
        for _ in range(messages // BATCH):
            self._database.execute("BEGIN IMMEDIATE")
            rows = self._database.execute(
                "UPDATE queue SET holder = 'me' WHERE id IN "
                "(SELECT id FROM queue WHERE holder IS NULL ORDER BY id LIMIT ?)"
                " RETURNING id, body",
                (BATCH,),
            ).fetchall()
            self._database.execute("COMMIT")
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(
                "DELETE FROM queue WHERE id = ?", [(row[0],) for row in rows]
            )
            self._database.execute("COMMIT")

    def close(self) -> None:
        self._database.close()
