"""A connection to RabbitMQ that is opened when it is needed, and again after it broke."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from pika import ConnectionParameters, PlainCredentials, SSLOptions
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError, ChannelError

from blocks.errors import (
    BrokerConfigurationError,
    BrokerError,
    BrokerUnavailableError,
)
from blocks.rabbitmq_broker.backoff import Backoff
from blocks.rabbitmq_broker.channel import Channel
from blocks.rabbitmq_broker.connection import Connection
from blocks.rabbitmq_broker.driver import Answer, Driver
from blocks.rabbitmq_broker.errors import translate

_DRIVER_ERRORS: Final = (AMQPError, AMQPConnectorException, ChannelError, OSError)
_GOODBYE_SECONDS: Final = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where a RabbitMQ is, and how to log in."""

    address: str
    #: The nodes of the cluster, each a host and a port.
    hosts: Sequence[tuple[str, int]]
    vhost: str
    username: str
    password: str = field(repr=False)
    tls: bool
    tls_ca_file: str | None
    #: Seconds.
    heartbeat: int
    connect_timeout: float
    timeout: float


class Link:
    """One connection, to whichever of the hosts takes it.

    Nothing is sent twice: a call whose reply is lost raises `BrokerUnavailableError`, and whether
    it was carried out is for the caller to find out.
    """

    def __init__(self, driver: Driver, endpoint: Endpoint, name: str) -> None:
        self.driver = driver
        self.address = endpoint.address
        self.timeout = endpoint.timeout
        self._endpoint = endpoint
        self._name = name
        self._tls = _tls_context(endpoint)
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._backoff = Backoff()
        self._first = 0
        self._blocked = False
        self._closed = False

    async def open(self) -> None:
        """Connect, unless that has been done."""
        await self._connected()

    async def channel(self) -> Channel:
        """Open a channel, on a connection that is opened for it if there is none."""
        connection = await self._connected()

        def begin(answer: Answer[Channel]) -> None:
            def opened(raw: Any) -> None:
                answer.give(Channel(raw, self.driver, self.timeout))

            def closed(_raw: object, reason: BaseException) -> None:
                answer.fail(reason)

            connection.channel(on_open_callback=opened).add_on_close_callback(closed)

        with self.explained():
            return await self.driver.ask(begin, self.timeout)

    @asynccontextmanager
    async def passing_channel(self) -> AsyncGenerator[Channel]:
        """Open a channel for a few calls, and close it after them."""
        channel = await self.channel()
        with self.explained():
            try:
                yield channel
            finally:
                await channel.close()

    @contextmanager
    def explained(self) -> Generator[None]:
        """Turn the driver's errors into ours, and give up a connection that doesn't answer."""
        try:
            yield
        except TimeoutError as error:
            self.drop()
            reason = (
                "it blocks publishers, as it is short of memory or disk"
                if self._blocked
                else f"no answer for {self.timeout:g} s"
            )
            raise BrokerUnavailableError(f"{self.address} can't serve now: {reason}") from error
        except _DRIVER_ERRORS as error:
            raise translate(error, self.address) from error

    def drop(self) -> None:
        """Give up the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self.driver.post(connection.abort)

    async def close(self) -> None:
        """Hang up, politely where somebody answers."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is None:
            return

        def begin(answer: Answer[None]) -> None:
            if not connection.is_open:
                answer.give(None)
                return

            def closed(*_: object) -> None:
                answer.give(None)

            connection.add_on_close_callback(closed)
            connection.close()

        with suppress(TimeoutError):
            await self.driver.ask(begin, min(self.timeout, _GOODBYE_SECONDS))
        self.driver.post(connection.abort)

    async def _connected(self) -> Connection:
        async with self._connecting:
            if self._closed:
                raise BrokerUnavailableError(
                    f"this session with {self.address} is closed; open another with `connect()`"
                )
            if self._connection is not None and self._connection.is_open:
                return self._connection
            self._backoff.check()
            try:
                connection = await self._connect_to_any()
            except BrokerError as error:
                self._backoff.failed(error)
                raise
            self._backoff.succeeded()
            self._connection = connection
            return connection

    async def _connect_to_any(self) -> Connection:
        """Try one host after another, beginning with the one that answered last."""
        hosts = self._endpoint.hosts
        failure: BrokerError | None = None
        for number in range(len(hosts)):
            place = (self._first + number) % len(hosts)
            try:
                connection = await self._connect_to(*hosts[place])
            except BrokerUnavailableError as error:
                failure = error
                continue
            self._first = place
            return connection
        raise failure or BrokerConfigurationError("`host` names no host")

    async def _connect_to(self, host: str, port: int) -> Connection:
        parameters = self._parameters(host, port)
        attempts: list[Connection] = []

        def begin(answer: Answer[Connection]) -> None:
            def opened(connection: Any) -> None:
                answer.give(connection)

            def failed(_connection: object, error: BaseException) -> None:
                answer.fail(error)

            connection = Connection(
                parameters,
                on_open_callback=opened,
                on_open_error_callback=failed,
                on_close_callback=failed,
                custom_ioloop=self.driver.ioloop,
            )
            attempts.append(connection)
            connection.add_on_connection_blocked_callback(self._note_blocked)
            connection.add_on_connection_unblocked_callback(self._note_unblocked)

        self._blocked = False
        try:
            # pika's own time begins after the name has been looked up.
            return await self.driver.ask(begin, self._endpoint.connect_timeout + 1)
        except TimeoutError as error:
            raise BrokerUnavailableError(
                f"{self.address} can't be reached: no answer from {host}:{port} for "
                f"{self._endpoint.connect_timeout:g} s; check that it runs, and `host` and `port`"
            ) from error
        except _DRIVER_ERRORS as error:
            raise translate(error, self.address) from error
        finally:
            self.driver.post(lambda: [one.abort() for one in attempts if not one.is_open])

    def _parameters(self, host: str, port: int) -> ConnectionParameters:
        endpoint = self._endpoint
        more: dict[str, Any] = {}
        if self._tls is not None:
            more["ssl_options"] = SSLOptions(self._tls, host)
        return ConnectionParameters(
            host=host,
            port=port,
            virtual_host=endpoint.vhost,
            credentials=PlainCredentials(endpoint.username, endpoint.password),
            heartbeat=endpoint.heartbeat,
            socket_timeout=endpoint.connect_timeout,
            stack_timeout=endpoint.connect_timeout,
            client_properties={"connection_name": self._name},
            **more,
        )

    def _note_blocked(self, *_: object) -> None:
        self._blocked = True

    def _note_unblocked(self, *_: object) -> None:
        self._blocked = False


def _tls_context(endpoint: Endpoint) -> ssl.SSLContext | None:
    if not endpoint.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=endpoint.tls_ca_file)
    except (OSError, ssl.SSLError) as error:
        raise BrokerConfigurationError(
            f"`tls_ca_file` {endpoint.tls_ca_file!r} can't be read: {error}; give a file in PEM"
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
