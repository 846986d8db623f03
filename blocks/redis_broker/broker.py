"""Redis streams as a broker.

A queue `orders` is three streams, `orders:high` (priorities 0 to 2), `orders` (3 to 6) and
`orders:low` (7 to 9), a sorted set `orders:delayed`, and a stream of dead letters, `orders:dead`.
Anybody can publish with `XADD orders * body <bytes>`; `entry.py` beside this file names the other
fields. A message is removed from its stream when it is settled, so nothing needs trimming. Dead
letters stay until they are redriven or discarded, unless the block bounds their age or their
memory: then a session that receives drops the oldest, once a lease.

A topic `news` is a stream `news:topic`, to which anybody can broadcast with `XADD` likewise. The
set `orders:topics` holds the topics that the queue has subscribed to; on each of their streams
there is a consumer group `orders`, whose position says how far they have been moved into the queue.
What all groups have taken is dropped at once.

Scripts written in Lua do every step that has to be atomic. A user with ACLs needs
`~orders* +@connection +@stream +@sortedset +sadd +smembers +exists +eval +evalsha +time`, and
`~news:topic` for each topic; `max_per_second` needs `+get +set`,
`dead_letters_max_bytes` needs `+memory|usage`.

What Redis promises is a matter of its configuration. `publish` returns once Redis has answered:
with `appendonly yes` and `appendfsync always` the message is on the disk then; with `everysec` a
crash of the machine (not of Redis alone) loses the last second; a fail-over to a replica loses what
had not been copied yet, as replication is asynchronous (`min-replicas-to-write` bounds it). Set
`maxmemory-policy noeviction`: any other may evict a queue.

A call whose answer was lost raises `BrokerUnavailableError`, and may have been carried out. Who
publishes again after that gives `Message.id` himself, so that both messages carry the same id.
"""

import os
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import uuid4

from pydantic import Field, SecretStr, ValidationError

from blocks.broker import Broker
from blocks.capabilities import Capabilities, Order
from blocks.errors import BrokerConfigurationError
from blocks.redis_broker.entry import MAX_BODY_BYTES, milliseconds
from blocks.redis_broker.limits import Limits
from blocks.redis_broker.reader import Member
from blocks.redis_broker.session import RedisSession
from blocks.redis_broker.wire import Endpoint, Wire

#: Fields that a URL can set by its query.
_OPTIONS: Final = ("db", "group", "lease_seconds", "max_per_second")

_CAPABILITIES: Final = Capabilities(
    priority_levels=3,
    selects_band=True,
    delay=True,
    order=Order.QUEUE,
    dead_letters=True,
    topics=True,
    topic_patterns=False,
    networked=True,
    counts_deliveries=True,
    sees_all_in_flight=True,
    tells_age=True,
    max_body_bytes=MAX_BODY_BYTES,
)


class RedisBroker(Broker):
    """A Redis 7 or Valkey server, whose streams are the queues.

    On a Redis Cluster a queue's name stands in braces, `{orders}`, and `host` is the node that
    holds it.

    Example:
        >>> async with RedisBroker(host="localhost").connect() as session:
        ...     await session.publish("orders", [Message(body=b"{}")])
    """

    _block_type_name = "Redis Broker"
    _description = "Queues on Redis streams: priorities, delays, dead letters."

    host: str = Field(default="localhost", min_length=1, description="Name or address of Redis.")
    port: int = Field(default=6379, ge=1, le=65_535, description="Its port.")
    unix_socket: str | None = Field(
        default=None, description="Path of its socket, instead of host and port."
    )
    db: int = Field(default=0, ge=0, description="Number of the database.")
    username: str | None = Field(default=None, description="User, where Redis has ACLs.")
    password: SecretStr | None = Field(default=None, description="Password, where it wants one.")
    tls: bool = Field(default=False, description="Encrypt, and check the server's certificate.")
    tls_ca_file: str | None = Field(
        default=None, description="Certificates to trust, in PEM; those of the system without it."
    )
    group: str = Field(
        default="noa",
        min_length=1,
        max_length=255,
        description="Consumer group: all of one group share the messages of a queue.",
    )
    connect_timeout_seconds: float = Field(
        default=2.0, gt=0, le=60, description="How long connecting may take, in seconds."
    )
    timeout_seconds: float = Field(
        default=5.0,
        ge=1,
        le=300,
        description="How long Redis may take for an answer before it counts as unreachable.",
    )

    max_per_second: float | None = Field(
        default=None,
        ge=0.001,
        le=100_000,
        description=(
            "Deliveries of a queue in a second, by all consumers together; after a pause those of "
            "one second come at once. Give every block of a queue the same. Default: no limit."
        ),
    )
    dead_letters_max_age_days: float | None = Field(
        default=None,
        gt=0,
        le=36_500,
        description="Dead letters that are older are dropped; without it, none is for its age.",
    )
    dead_letters_max_bytes: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Memory that a queue's dead letters may take, in bytes; the oldest beyond it are "
            "dropped. Without it, none is for its size."
        ),
    )

    @property
    def capabilities(self) -> Capabilities:
        """The same for every queue."""
        return _CAPABILITIES

    @classmethod
    def variants(cls) -> Mapping[str, Self]:
        """Only one."""
        return {"Redis": cls()}

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Build the block from `redis://user:password@host:6379/0`, `rediss://…` or `unix:///path`.

        `?db=`, `?group=`, `?lease_seconds=` and `?max_per_second=` set those fields.

        Raises:
            BrokerConfigurationError: A part of the URL is wrong; the message never quotes it.
        """
        try:
            return cls.model_validate(_fields(url))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
            )
            raise BrokerConfigurationError(f"the Redis URL is wrong: {problems}") from None
        except ValueError:
            raise BrokerConfigurationError(
                "the Redis URL is wrong: write redis://user:password@host:port/db, and special "
                "characters of the password as %XX"
            ) from None

    @property
    def address(self) -> str:
        """`redis://host:port/db`, `rediss://host:port/db` or `unix://path?db=0`."""
        if self.unix_socket:
            return f"unix://{self.unix_socket}?db={self.db}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.db}"

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[RedisSession]:
        """Open a session; when it ends, what it still holds is given back uncounted.

        Raises:
            BrokerUnavailableError: Nobody answers at the address.
            BrokerRefusedError: The credentials or the certificate are wrong.
        """
        wire = Wire(self._endpoint())
        session = RedisSession(wire, self._member(), self._limits(), address=self.address)
        try:
            await wire.ping()
            yield session
        finally:
            await session.close()

    def _endpoint(self) -> Endpoint:
        return Endpoint(
            address=self.address,
            host=self.host,
            port=self.port,
            unix_socket=self.unix_socket,
            db=self.db,
            username=self.username,
            password=self.password.get_secret_value() if self.password else None,
            tls=self.tls,
            tls_ca_file=self.tls_ca_file,
            connect_timeout=self.connect_timeout_seconds,
            timeout=self.timeout_seconds,
        )

    def _limits(self) -> Limits:
        days = self.dead_letters_max_age_days
        return Limits(
            dead_letters_max_age=None if days is None else timedelta(days=days),
            dead_letters_max_bytes=self.dead_letters_max_bytes,
            max_per_second=self.max_per_second,
        )

    def _member(self) -> Member:
        unique = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:12]}"
        return Member(self.group, f"{unique}:{milliseconds(self.lease)}", self.lease)


def _fields(url: str) -> dict[str, object]:
    parts = urlsplit(url)
    fields: dict[str, object] = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    if unknown := fields.keys() - set(_OPTIONS):
        raise BrokerConfigurationError(
            f"the Redis URL has unknown options {', '.join(sorted(unknown))}; "
            f"{', '.join(_OPTIONS)} can be set there"
        )
    if parts.username:
        fields["username"] = unquote(parts.username)
    if parts.password:
        fields["password"] = unquote(parts.password)
    if parts.scheme == "unix":
        return fields | {"unix_socket": unquote(parts.path)}
    if parts.scheme not in ("redis", "rediss"):
        raise BrokerConfigurationError(
            f"the Redis URL begins with {parts.scheme!r}; write redis://, rediss:// or unix://"
        )
    if path := parts.path.strip("/"):
        fields["db"] = path
    if parts.hostname:
        fields["host"] = parts.hostname
    return fields | {"port": parts.port or 6379, "tls": parts.scheme == "rediss"}
