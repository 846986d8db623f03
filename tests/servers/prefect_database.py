"""Databases ready for a Prefect server, copied from one that was migrated before.

Migrating takes 5 to 10 seconds, a copy a tenth of one. The SQLite template is kept between test
runs, for each version of Prefect; the PostgreSQL one is made once for each PostgreSQL server.
"""

import fcntl
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path

from tests.servers.postgres_databases import PostgresDatabases
from tests.servers.prefect_environment import prefect_environment

# What the server does to its database when it starts.
_PREPARE = """
import asyncio
from prefect.server.database import provide_database_interface
from prefect.server.models.block_registration import run_block_auto_registration

async def prepare() -> None:
    database = provide_database_interface()
    await database.create_db()
    async with await database.session() as session:
        await run_block_auto_registration(session=session)

asyncio.run(prepare())
"""


def sqlite_database(path: Path) -> str:
    """Put a migrated database at this path and return its URL."""
    with _locked() as cache:
        template = cache / f"prefect-{version('prefect')}.db"
        if not template.exists():
            _make_sqlite_template(template)
    shutil.copyfile(template, path)
    return f"sqlite+aiosqlite:///{path}"


def postgres_database(databases: PostgresDatabases) -> str:
    """Create a migrated database under a name of its own and return its URL."""
    template = f"prefect_template_{version('prefect')}"
    with _locked():
        if not databases.exists(template):
            _make_postgres_template(databases, template)
        return databases.create_database(f"prefect_{secrets.token_hex(4)}", template=template)


def _make_sqlite_template(template: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.db"
        _migrate(f"sqlite+aiosqlite:///{made}", Path(folder))
        whole = template.with_suffix(".part")
        whole.unlink(missing_ok=True)
        # `VACUUM INTO` also takes what still stands in the write-ahead log.
        with closing(sqlite3.connect(made)) as connection:
            connection.execute("VACUUM INTO ?", (str(whole),))
        whole.rename(template)


def _make_postgres_template(databases: PostgresDatabases, template: str) -> None:
    made = f"{template}_part_{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory() as folder:
        _migrate(databases.create_database(made), Path(folder))
    databases.rename(made, template)


def _migrate(url: str, home: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", _PREPARE],
        check=True,
        cwd=home,
        env={
            **prefect_environment(home),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": url,
            "PREFECT_SERVER_UI_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "WARNING",
        },
    )


@contextmanager
def _locked() -> Generator[Path]:
    """The cache folder, for one process at a time: parallel test runs share the template."""
    cache = Path(tempfile.gettempdir()) / f"noa-tests-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield cache
