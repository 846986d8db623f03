"""RabbitMQ as a broker.

A queue `orders` is the quorum queue `orders` (or a classic one with priorities), `orders.dead` for
its dead letters, bound to the exchange `noa.dead`, and for the steps of delays, as soon as they are
needed, `orders.delay.<milliseconds>`. Anybody can publish to it; `incoming.py` in this folder says
which properties and headers are understood. A message is persistent, and counts as published once
RabbitMQ has confirmed it.

Whatever is moved, by a retry with a delay, a release from a quorum queue, into the dead letters or
out of them, is published again, confirmed, and acknowledged after that. A crash between leaves two
copies with the same id, never none.

A call whose answer was lost raises `BrokerUnavailableError`, and may have been carried out. Who
publishes again after that gives `Message.id` himself, so that both messages carry the same id.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from pydantic import Field, SecretStr, ValidationError

from blocks.broker import Broker
from blocks.capabilities import Capabilities, Order
from blocks.errors import BrokerConfigurationError
from blocks.rabbitmq_broker.binding import Binding
from blocks.rabbitmq_broker.url import AMQP_PORT, AMQPS_PORT, fields_of, split_host

if TYPE_CHECKING:
    from blocks.rabbitmq_broker.session import RabbitMQSession

#: RabbitMQ takes 128 MiB by default. But it keeps bodies in memory on their way; what is larger
#: belongs into an object store.
_MAX_BODY_BYTES: Final = 16 * 1024 * 1024
_SHORTEST_HEARTBEAT: Final = 5
_LONGEST_HEARTBEAT: Final = 60


class RabbitMQBroker(Broker):
    """A RabbitMQ 3.10 or later, one node or a cluster.

    Example:
        >>> async with RabbitMQBroker(host="localhost").connect() as session:
        ...     await session.declare("orders")
        ...     await session.publish("orders", [Message(body=b"{}")])
    """

    _block_type_name = "RabbitMQ Broker"
    _block_type_slug = "rabbitmq-broker"
    _description = "Queues on RabbitMQ: topics, delays, dead letters, and priorities on demand."

    host: str = Field(
        default="localhost",
        min_length=1,
        description="Name or address of RabbitMQ; several nodes of a cluster with commas between, "
        "each with a port of its own if need be: `mq1,mq2:5673`.",
    )
    port: int | None = Field(
        default=None, ge=1, le=65_535, description="Its port; without one 5672, or 5671 with TLS."
    )
    vhost: str = Field(default="/", min_length=1, max_length=255, description="Virtual host.")
    username: str = Field(default="guest", min_length=1, description="User.")
    password: SecretStr = Field(default=SecretStr("guest"), description="Password of the user.")
    tls: bool = Field(default=False, description="Encrypt, and check the server's certificate.")
    tls_ca_file: str | None = Field(
        default=None, description="Certificates to trust, in PEM; those of the system without it."
    )
    queue_type: Literal["quorum", "classic"] = Field(
        default="quorum",
        description="`quorum`: replicated, counts deliveries; `classic`: has ten priorities.",
    )
    declare: bool = Field(
        default=True,
        description="Make queues, exchanges and bindings; else only check that they are there.",
    )
    exchange: str = Field(
        default="noa.topics", min_length=1, max_length=255, description="Exchange of the topics."
    )
    dead_letter_exchange: str = Field(
        default="noa.dead", min_length=1, max_length=255, description="Exchange of dead letters."
    )
    bindings: list[Binding] = Field(
        default_factory=list[Binding], description="Further exchanges that feed queues."
    )
    prefetch: int = Field(
        default=500, ge=1, le=10_000, description="How many messages are taken at once, at most."
    )
    heartbeat_seconds: int | None = Field(
        default=None,
        ge=1,
        le=600,
        description="A connection that is silent for about this long is given up by both ends; "
        "without one, half a lease, but 5 to 60 seconds.",
    )
    connect_timeout_seconds: float = Field(
        default=5.0, gt=0, le=60, description="How long connecting to a node may take, in seconds."
    )
    timeout_seconds: float = Field(
        default=10.0,
        ge=1,
        le=300,
        description="How long RabbitMQ may take for an answer before it counts as unreachable.",
    )

    @property
    def capabilities(self) -> Capabilities:
        """By the type of the queues."""
        classic = self.queue_type == "classic"
        return Capabilities(
            priority_levels=10 if classic else 1,
            selects_band=False,
            delay=True,
            order=Order.QUEUE,
            dead_letters=True,
            topics=True,
            topic_patterns=True,
            networked=True,
            counts_deliveries=not classic,
            sees_all_in_flight=False,
            tells_age=False,
            max_body_bytes=_MAX_BODY_BYTES,
        )

    @classmethod
    def variants(cls) -> Mapping[str, Self]:
        """One a type of queue."""
        return {"RabbitMQ quorum": cls(), "RabbitMQ classic": cls(queue_type="classic")}

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Build the block from `amqp://user:password@host:5672/vhost`, or `amqps://…`.

        Several hosts have commas between. `?queue_type=`, `?declare=`, `?exchange=`, `?prefetch=`,
        `?tls_ca_file=`, `?heartbeat_seconds=` and `?lease_seconds=` set those fields.

        Raises:
            BrokerConfigurationError: A part of the URL is wrong; the message never quotes it.
        """
        try:
            return cls.model_validate(fields_of(url))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
            )
            raise BrokerConfigurationError(f"the RabbitMQ URL is wrong: {problems}") from None
        except ValueError:
            raise BrokerConfigurationError(
                "the RabbitMQ URL is wrong: write amqp://user:password@host:port/vhost, and "
                "special characters of the password as %XX"
            ) from None

    @property
    def address(self) -> str:
        """`amqp://host:port/vhost`, or `amqps://…`; all hosts with commas between."""
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self._hosts()
        )
        vhost = "" if self.vhost == "/" else self.vhost
        return f"{'amqps' if self.tls else 'amqp'}://{hosts}/{vhost}"

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator["RabbitMQSession"]:
        """Open a session; when it ends, what it still holds is given back uncounted.

        Raises:
            BrokerUnavailableError: Nobody answers at the address.
            BrokerRefusedError: The credentials or the certificate are wrong.
            BrokerConfigurationError: The file of certificates can't be read.
        """
        from blocks.rabbitmq_broker.link import Endpoint
        from blocks.rabbitmq_broker.session import RabbitMQSession
        from blocks.rabbitmq_broker.topology import Layout

        session = RabbitMQSession(
            Endpoint(**self._endpoint()),
            Layout(
                queue_type=self.queue_type,
                declare=self.declare,
                topic_exchange=self.exchange,
                dead_letter_exchange=self.dead_letter_exchange,
                bindings=tuple(self.bindings),
            ),
            lease=self.lease,
            prefetch=self.prefetch,
        )
        try:
            await session.open()
            yield session
        finally:
            await session.close()

    def _endpoint(self) -> dict[str, Any]:
        half_a_lease = int(self.lease_seconds / 2)
        return {
            "address": self.address,
            "hosts": self._hosts(),
            "vhost": self.vhost,
            "username": self.username,
            "password": self.password.get_secret_value(),
            "tls": self.tls,
            "tls_ca_file": self.tls_ca_file,
            "heartbeat": self.heartbeat_seconds
            or max(_SHORTEST_HEARTBEAT, min(half_a_lease, _LONGEST_HEARTBEAT)),
            "connect_timeout": self.connect_timeout_seconds,
            "timeout": self.timeout_seconds,
        }

    def _hosts(self) -> Sequence[tuple[str, int]]:
        default = self.port or (AMQPS_PORT if self.tls else AMQP_PORT)
        return [split_host(one, default) for one in self.host.split(",")]
