"""A durable broker in one SQLite file: no server, several processes, one machine."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote, unquote, urlsplit

from pydantic import Field, HttpUrl

from blocks.broker import Broker
from blocks.capabilities import Capabilities, Order
from blocks.embedded_broker.rows import MAX_BODY_BYTES
from blocks.embedded_broker.session import EmbeddedSession
from blocks.errors import BrokerConfigurationError

_SCHEME: Final = "embedded"

_CAPABILITIES: Final = Capabilities(
    priority_levels=10,
    selects_band=True,
    delay=True,
    order=Order.QUEUE,
    dead_letters=True,
    topics=True,
    topic_patterns=True,
    networked=False,
    counts_deliveries=True,
    sees_all_in_flight=True,
    tells_age=True,
    max_body_bytes=MAX_BODY_BYTES,
)


class EmbeddedBroker(Broker):
    """Queues in a SQLite file, for the quick start, tests, and a machine that needs no server.

    Everything is on the disk before a call returns. Any number of processes of one machine may
    share the file; it must not lie on a network file system. Delays and leases follow the machine's
    clock: one that is set back makes them longer, one that is set forward ends them early.

    Example:
        Load a saved block and publish a message:
        ```python
        from blocks.embedded_broker import EmbeddedBroker
        from blocks.message import Message

        broker = EmbeddedBroker.load("BLOCK_NAME")
        async with broker.connect() as session:
            await session.publish("jobs", [Message(body=b"{}")])
        ```
    """

    _block_type_name = "Embedded Broker"
    _documentation_url = HttpUrl("https://www.sqlite.org/wal.html")

    path: Path = Field(
        description=(
            "The database file. It and its folder are made on first use, for their owner alone;"
            " a relative path begins at the folder in which the program was started."
        ),
    )

    @property
    def capabilities(self) -> Capabilities:
        """The same for every queue."""
        return _CAPABILITIES

    @classmethod
    def variants(cls) -> Mapping[str, Self]:
        """Only one."""
        return {"embedded": cls(path=Path("queue.db"))}

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Build the block from `embedded:///absolute/path.db` or `embedded:relative.db`.

        Raises:
            BrokerConfigurationError: There is no path, or something besides it.
        """
        scheme, host, path, query, fragment = urlsplit(url)
        if scheme != _SCHEME or host or query or fragment or not path.strip("/"):
            raise BrokerConfigurationError(
                f"{url!r} names no file; write embedded:///absolute/path.db, or"
                " embedded:relative.db, with %3F and %23 for ? and # in names"
            )
        return cls(path=Path(unquote(path)))

    @property
    def address(self) -> str:
        """The URL of the file with its absolute path, so that it names the file everywhere."""
        return f"{_SCHEME}://{quote(str(self._file))}"

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[EmbeddedSession]:
        """Open a session; when it ends, what it still holds is given back without counting.

        Raises:
            BrokerConfigurationError: The file can't be made, or holds something else.
            BrokerUnavailableError: The disk is full, or somebody keeps the file locked.
        """
        session = EmbeddedSession(
            self._file,
            address=self.address,
            provider=self.get_block_type_slug(),
            lease=self.lease,
        )
        try:
            await session.open()
            yield session
        finally:
            await session.close()

    @property
    def _file(self) -> Path:
        return self.path.expanduser().absolute()
