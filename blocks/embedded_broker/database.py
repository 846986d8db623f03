"""Opening the embedded broker's SQLite file: settings, schema, and SQLite's errors in words."""

import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from blocks.errors import BrokerConfigurationError, BrokerError, BrokerUnavailableError

#: How long a call waits for other processes' transactions, each of which takes milliseconds.
BUSY_SECONDS: Final = 10.0
SCHEMA_VERSION: Final = 2
# "noaq": tells our file from any other SQLite database (https://www.sqlite.org/fileformat.html).
_APPLICATION_ID: Final = 0x6E6F6171

# Every message stands in exactly one of the three partial indexes, so that taking the next one
# costs the same with ten messages waiting and with a million. They hold `state` too, or SQLite
# would look it up in the table.
#   state     0 ready, 1 delayed, 2 held
#   due       when a delay or a lease ends; times are microseconds since 1970, UTC
#   lease     the fence: drawn anew for every delivery, 0 while nobody holds the message
# `dead.seq` is AUTOINCREMENT, for a handle must never come to mean another letter.
_SCHEMA: Final = (
    "CREATE TABLE queues (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    """CREATE TABLE messages (
        seq INTEGER PRIMARY KEY,
        queue INTEGER NOT NULL,
        state INTEGER NOT NULL,
        priority INTEGER NOT NULL,
        due INTEGER NOT NULL,
        lease INTEGER NOT NULL,
        deliveries INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        published_at INTEGER NOT NULL,
        id TEXT NOT NULL,
        key TEXT,
        headers TEXT NOT NULL,
        body BLOB NOT NULL
    )""",
    "CREATE INDEX ready ON messages (queue, state, priority) WHERE state = 0",
    "CREATE INDEX delayed ON messages (queue, state, due) WHERE state = 1",
    "CREATE INDEX held ON messages (queue, state, due) WHERE state = 2",
    """CREATE TABLE dead (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        queue INTEGER NOT NULL,
        priority INTEGER NOT NULL,
        deliveries INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        published_at INTEGER NOT NULL,
        died_at INTEGER NOT NULL,
        id TEXT NOT NULL,
        key TEXT,
        reason TEXT NOT NULL,
        error TEXT NOT NULL,
        error_type TEXT NOT NULL,
        run_id TEXT NOT NULL,
        headers TEXT NOT NULL,
        body BLOB NOT NULL
    )""",
    "CREATE INDEX dead_by_queue ON dead (queue)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
)
#: The version that a file had → what makes the next one of it; a new file takes every step.
_STEPS: Final = {
    0: _SCHEMA,
    1: (
        """CREATE TABLE subscriptions (
            topic TEXT NOT NULL,
            queue INTEGER NOT NULL,
            is_pattern INTEGER NOT NULL,
            PRIMARY KEY (topic, queue)
        ) WITHOUT ROWID""",
        "CREATE INDEX patterns ON subscriptions (topic, queue) WHERE is_pattern",
    ),
}

_CONFIGURATION: Final = {
    sqlite3.SQLITE_NOTADB: "is not a SQLite database; give the path of a new file",
    sqlite3.SQLITE_CORRUPT: "is damaged; move it away, and recover it with `sqlite3 FILE .recover`",
    sqlite3.SQLITE_READONLY: "can't be written; make the file and its folder writable",
    sqlite3.SQLITE_CANTOPEN: "can't be opened; give the path of a file that may be written",
    sqlite3.SQLITE_PERM: "may not be opened; make the file and its folder writable",
}
_UNAVAILABLE: Final = {
    sqlite3.SQLITE_BUSY: (
        f"was locked by another process for {BUSY_SECONDS:.0f} seconds; end what holds it"
    ),
    sqlite3.SQLITE_FULL: "can't grow; make room on its disk",
    sqlite3.SQLITE_IOERR: "can't be read or written; look at its disk",
}


def open_database(path: Path, address: str) -> sqlite3.Connection:
    """Open the file, and make it where it doesn't exist, for its owner alone.

    Raises:
        BrokerConfigurationError: The path can't hold a database, or holds something else.
        BrokerUnavailableError: The disk is full or broken, or somebody keeps the file locked.
    """
    with explained(address):
        is_new = not path.exists()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            if is_new:
                # Still empty; SQLite gives the files beside it the same mode.
                path.chmod(0o600)
            _prepare(connection, address)
        except BaseException:
            connection.close()
            raise
        return connection


@contextmanager
def explained(address: str) -> Generator[None]:
    """Turn the errors of SQLite and of the file system into ours."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if not hasattr(error, "sqlite_errorcode"):
            raise  # not SQLite's answer, but a mistake of ours in calling it
        raise _explain(error, address) from error
    except OSError as error:
        raise BrokerConfigurationError(
            f"{address}: {error.strerror}; give the path of a file that may be written"
        ) from error


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Generator[None]:
    """One transaction; IMMEDIATE takes the write lock first, so that none fails half way."""
    _begin(connection, kind)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _begin(connection: sqlite3.Connection, kind: str) -> None:
    # SQLite would wait longer from try to try, up to 100 ms, and a busy neighbour whose
    # transactions follow each other closely would have the queue to itself.
    deadline = time.monotonic() + BUSY_SECONDS
    connection.execute("PRAGMA busy_timeout = 1")
    try:
        while not _has_begun(connection, kind, deadline):
            pass
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1_000)}")


def _has_begun(connection: sqlite3.Connection, kind: str, deadline: float) -> bool:
    try:
        connection.execute(f"BEGIN {kind}")
    except sqlite3.OperationalError as error:
        if not _is_busy(error) or time.monotonic() > deadline:
            raise
        return False
    return True


def _is_busy(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def scalar(connection: sqlite3.Connection, sql: str) -> int:
    """The single number that the statement returns."""
    return int(connection.execute(sql).fetchone()[0])


def _explain(error: sqlite3.DatabaseError, address: str) -> BrokerError:
    code = error.sqlite_errorcode & 0xFF  # without the extended part
    if code in _CONFIGURATION:
        return BrokerConfigurationError(f"{address} {_CONFIGURATION[code]} ({error})")
    return BrokerUnavailableError(f"{address} {_UNAVAILABLE.get(code, 'failed')} ({error})")


def _prepare(connection: sqlite3.Connection, address: str) -> None:
    if scalar(connection, "PRAGMA user_version") != SCHEMA_VERSION:
        _upgrade(connection, address)
    if scalar(connection, "PRAGMA application_id") != _APPLICATION_ID:
        raise _foreign(address)
    connection.execute("PRAGMA synchronous = FULL")
    # A burst may blow the log up; afterwards it is cut back to this many bytes.
    connection.execute("PRAGMA journal_size_limit = 67108864")


def _upgrade(connection: sqlite3.Connection, address: str) -> None:
    """Bring the file to the version of this release: a new one, or one of an older release."""
    if scalar(connection, "SELECT count(*) FROM sqlite_master") == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _turn_on_wal(connection)
    with transaction(connection):
        # Another process may have been quicker: then there is no step left.
        version = scalar(connection, "PRAGMA user_version")
        is_empty = scalar(connection, "SELECT count(*) FROM sqlite_master") == 0
        if not (_is_ours(connection) or (version == 0 and is_empty)):
            raise _foreign(address)
        if version > SCHEMA_VERSION:
            raise BrokerConfigurationError(
                f"{address} has format {version} of a newer release, and this release reads up to"
                f" {SCHEMA_VERSION}; upgrade noa-flows, or give the path of a new file"
            )
        for step in range(version, SCHEMA_VERSION):
            for statement in _STEPS[step]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _is_ours(connection: sqlite3.Connection) -> bool:
    return scalar(connection, "PRAGMA application_id") == _APPLICATION_ID


def _foreign(address: str) -> BrokerConfigurationError:
    return BrokerConfigurationError(
        f"{address} is the database of another application; give the path of a new file"
    )


def _turn_on_wal(connection: sqlite3.Connection) -> None:
    # Changing the mode ignores the busy timeout while another process does the same.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
