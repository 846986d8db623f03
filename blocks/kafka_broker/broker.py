"""Apache Kafka as a broker; `docs/providers/kafka.md` says what lies where."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal, Self
from urllib.parse import parse_qsl, unquote

from pydantic import Field, SecretStr, ValidationError

from blocks.broker import Broker
from blocks.capabilities import Capabilities, Order
from blocks.errors import BrokerConfigurationError
from blocks.kafka_broker.endpoint import Endpoint, Settings
from blocks.kafka_broker.record import MAX_BODY_BYTES

if TYPE_CHECKING:
    from blocks.kafka_broker.session import KafkaSession

_CAPABILITIES: Final = Capabilities(
    priority_levels=1,
    selects_band=False,
    delay=True,
    order=Order.KEY,
    dead_letters=True,
    topics=True,
    topic_patterns=True,
    networked=True,
    counts_deliveries=True,
    sees_all_in_flight=False,
    tells_age=True,
    max_body_bytes=MAX_BODY_BYTES,
)
_SCHEMES: Final = {"kafka": False, "kafka+ssl": True}
#: Fields that a URL's query may set.
_OPTIONS: Final = frozenset(
    {"group", "lease_seconds", "mechanism", "tls_ca_file", "partitions", "replication_factor"}
    | {"retention_hours", "declare_topics", "timeout_seconds"}
)


class KafkaBroker(Broker):
    """An Apache Kafka cluster, version 2.5 or later; a queue is a topic and its consumer group.

    Example:
        >>> async with KafkaBroker(servers="localhost:9092").connect() as session:
        ...     await session.publish("orders", [Message(body=b"{}")])
    """

    _block_type_name = "Kafka Broker"
    _description = "Queues on Kafka topics: consumer groups, retry topics, dead letters."

    servers: str = Field(
        default="localhost:9092",
        pattern=r"^[^\s/@?#,]+:\d{1,5}(,[^\s/@?#,]+:\d{1,5})*$",
        description="The bootstrap servers, each as host:port, with commas between them.",
    )
    tls: bool = Field(default=False, description="Encrypt, and check the brokers' certificates.")
    tls_ca_file: str | None = Field(
        default=None, description="Certificates to trust, in PEM; those of the system without it."
    )
    mechanism: Literal["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] = Field(
        default="SCRAM-SHA-512", description="How to log in, where there is a user."
    )
    username: str | None = Field(default=None, description="User, where Kafka wants a log-in.")
    password: SecretStr | None = Field(default=None, description="Password of the user.")
    group: str = Field(
        default="noa",
        min_length=1,
        max_length=100,
        description="Begins the names of the consumer groups: a queue's is <group>.<queue>.",
    )
    declare_topics: bool = Field(
        default=True, description="Make topics that are missing; else only check that they exist."
    )
    partitions: int = Field(
        default=4,
        ge=1,
        le=10_000,
        description="Partitions of a queue that is made: so many consumers can share it.",
    )
    replication_factor: int = Field(
        default=-1,
        ge=-1,
        le=32_767,
        description="Copies of what is made; -1 for the cluster's own.",
    )
    retention_hours: float = Field(
        default=168.0,
        gt=0,
        le=1_000_000,
        description="How long messages of a queue that is made are kept, settled or not, in hours.",
    )
    timeout_seconds: float = Field(
        default=5.0,
        ge=1,
        le=300,
        description="How long Kafka may take for an answer before it counts as unreachable.",
    )

    @property
    def capabilities(self) -> Capabilities:
        """The same for every queue."""
        return _CAPABILITIES

    @classmethod
    def variants(cls) -> Mapping[str, Self]:
        """Only one."""
        return {"Kafka": cls()}

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Build the block from `kafka://user:password@host:port,host:port`, or `kafka+ssl://…`.

        `?group=`, `?lease_seconds=`, `?mechanism=`, `?tls_ca_file=`, `?partitions=`,
        `?replication_factor=`, `?retention_hours=`, `?declare_topics=` and `?timeout_seconds=` set
        those fields.

        Raises:
            BrokerConfigurationError: A part of the URL is wrong; the message never quotes it.
        """
        try:
            return cls.model_validate(_fields(url))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
            )
            raise BrokerConfigurationError(f"the Kafka URL is wrong: {problems}") from None
        except ValueError:
            raise BrokerConfigurationError(
                "the Kafka URL is wrong: write kafka://user:password@host:port,host:port, and "
                "special characters of the password as %XX"
            ) from None

    @property
    def address(self) -> str:
        """`kafka://host:port,host:port` or `kafka+ssl://host:port,host:port`."""
        return f"{'kafka+ssl' if self.tls else 'kafka'}://{self.servers}"

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator["KafkaSession"]:
        """Open a session; when it ends, what it still holds is given back uncounted.

        Raises:
            BrokerUnavailableError: Nobody answers at the address.
            BrokerRefusedError: The credentials or the certificate are wrong.
            BrokerConfigurationError: A file that the block names can't be read.
        """
        from blocks.kafka_broker.session import KafkaSession
        from blocks.kafka_broker.wire import Wire

        wire = Wire(self._endpoint())
        session = KafkaSession(wire)
        try:
            await asyncio.to_thread(wire.check)
            yield session
        finally:
            await session.close()

    def _endpoint(self) -> Endpoint:
        return Endpoint(
            address=self.address,
            servers=self.servers,
            security=self._security(),
            group=self.group,
            lease=self.lease,
            timeout=timedelta(seconds=self.timeout_seconds),
            declare_topics=self.declare_topics,
            partitions=self.partitions,
            replication_factor=self.replication_factor,
            retention=timedelta(hours=self.retention_hours),
        )

    def _security(self) -> Settings:
        protocol = ("SASL_" if self.username else "") + ("SSL" if self.tls else "PLAINTEXT")
        settings: Settings = {"security.protocol": protocol}
        if self.tls_ca_file:
            settings["ssl.ca.location"] = self.tls_ca_file
        if self.username:
            settings["sasl.mechanism"] = self.mechanism
            settings["sasl.username"] = self.username
            settings["sasl.password"] = self.password.get_secret_value() if self.password else ""
        return settings


def _fields(url: str) -> dict[str, object]:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise BrokerConfigurationError(
            f"the Kafka URL begins with {scheme!r}; write kafka:// or kafka+ssl://"
        )
    place, _, query = rest.partition("?")
    login, _, servers = place.rpartition("@")
    fields: dict[str, object] = dict(parse_qsl(query, strict_parsing=bool(query)))
    if unknown := fields.keys() - _OPTIONS:
        raise BrokerConfigurationError(
            f"the Kafka URL has unknown options {', '.join(sorted(unknown))}; "
            f"{', '.join(sorted(_OPTIONS))} can be set there"
        )
    username, _, password = login.partition(":")
    if username:
        fields |= {"username": unquote(username), "password": unquote(password)}
    return fields | {"servers": servers.rstrip("/"), "tls": _SCHEMES[scheme]}
