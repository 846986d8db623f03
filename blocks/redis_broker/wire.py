"""The Redis driver, and nothing of it outside this file: one call, one round trip, our errors."""

import asyncio
import math
import ssl
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from blocks.redis_broker.errors import ReplicaError, translate
from blocks.redis_broker.keys import Keys, TopicKeys
from blocks.redis_broker.scripts import Script, source_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

#: An argument of a command. The driver encodes text as UTF-8.
Argument = str | bytes | int
#: The fields of an entry, by name.
Fields = dict[bytes, bytes]

_PROBE_AFTER_IDLE: Final = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where a Redis is, and how to log in."""

    address: str
    host: str
    port: int
    unix_socket: str | None
    db: int
    username: str | None
    password: str | None
    tls: bool
    tls_ca_file: str | None
    connect_timeout: float
    timeout: float


class Wire:
    """Connections to one Redis; broken ones are replaced on the next call.

    Nothing is sent twice here: a call whose answer is lost raises `BrokerUnavailableError`, and
    whether it was carried out is for the caller to find out.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._address = endpoint.address
        self._redis = _client(endpoint)

    async def ping(self) -> None:
        """Ask for a sign of life; logs in as every first command does."""
        await self._call("PING")

    async def run(
        self, script: Script, keys: Keys | TopicKeys, arguments: Iterable[Argument]
    ) -> Any:
        """Run a script on a queue or a topic; returns what it returns: lists, bytes, integers."""
        from redis.exceptions import NoScriptError, RedisError

        source = source_of(script)
        rest = (len(keys.all), *keys.all, *arguments)
        try:
            try:
                return await self._send("EVALSHA", source.digest, *rest)
            except NoScriptError:
                # Restarted or failed over; nothing has run yet. EVAL also makes it known.
                return await self._send("EVAL", source.text, *rest)
        except (RedisError, OSError) as error:
            raise await self._told(error) from error

    async def read_new(
        self, streams: Sequence[str], *, group: str, consumer: str, wait: float
    ) -> list[tuple[int, bytes, Fields]]:
        """Block until an entry comes, for at most `wait` seconds; take one a stream at most.

        Returns:
            Of each entry its stream's number, from 1, its entry id, and its fields.
        """
        command = ("XREADGROUP", "GROUP", group, consumer, "COUNT", 1, "BLOCK", _block(wait))
        reply = await self._call(*command, "STREAMS", *streams, *(">" for _ in streams))
        numbers = {key.encode(): number for number, key in enumerate(streams, start=1)}
        return [
            (numbers[key], entry_id, fields)
            for key, entries in reply or ()
            for entry_id, fields in entries
        ]

    async def watch(self, streams: Mapping[bytes, bytes], *, wait: float) -> None:
        """Block until an entry comes behind one of the ids; take nothing.

        Args:
            streams: Stream → entry id.
            wait: For how many seconds at most.
        """
        command = ("XREAD", "COUNT", 1, "BLOCK", _block(wait))
        await self._call(*command, "STREAMS", *streams, *streams.values())

    async def close(self) -> None:
        """Close all connections."""
        await self._redis.aclose()

    async def _call(self, *command: Argument) -> Any:
        from redis.exceptions import RedisError

        try:
            return await self._send(*command)
        except (RedisError, OSError) as error:
            raise await self._told(error) from error

    async def _send(self, *command: Argument) -> Any:
        task = asyncio.current_task()
        cancels = task.cancelling() if task else 0
        try:
            return await cast("Awaitable[Any]", self._redis.execute_command(*command))
        finally:
            # Below Python 3.12 the driver's `wait_for` can swallow a cancellation while it sends,
            # whatever the answer is then: https://github.com/python/cpython/issues/86296
            if task and task.cancelling() > cancels:
                raise asyncio.CancelledError

    async def _told(self, error: Exception) -> Exception:
        told = translate(error, self._address)
        if isinstance(told, ReplicaError):
            # Idle connections lead there too: the next call looks the name up again.
            await self._redis.connection_pool.disconnect(inuse_connections=False)
        return told


def _block(seconds: float) -> int:
    """A time as Redis takes it, in milliseconds; 0 would be for ever."""
    return max(1, math.ceil(seconds * 1_000))


def _client(endpoint: Endpoint) -> "Redis":
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return Redis(
        host=endpoint.host,
        port=endpoint.port,
        unix_socket_path=endpoint.unix_socket,
        db=endpoint.db,
        username=endpoint.username,
        password=endpoint.password,
        ssl=endpoint.tls,
        ssl_ca_certs=endpoint.tls_ca_file,
        ssl_min_version=ssl.TLSVersion.TLSv1_2,
        socket_connect_timeout=endpoint.connect_timeout,
        socket_timeout=endpoint.timeout,
        socket_keepalive=True,
        # A dead connection is found by a PING rather than by a command that may have been run.
        health_check_interval=_PROBE_AFTER_IDLE,
        # The driver would send a command again whose answer was lost.
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
