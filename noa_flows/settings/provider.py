"""The group `provider`: which broker carries the messages, with the fields of that one alone."""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlencode

from pydantic import Field, SecretStr, field_validator

from noa_flows.settings.groups import SettingsGroup

_HOST = r"^[^\s/@?#]+$"


def _default_queue_file() -> Path:
    from prefect.settings import get_current_settings

    return get_current_settings().home / "noa-queue.db"


BootstrapServer = Annotated[
    str, Field(pattern=r"^[^\s/@?#,]+:\d{1,5}$", examples=["kafka-1.example.com:9092"])
]


class EmbeddedConfig(SettingsGroup):
    """Where the embedded broker keeps its file."""

    path: Path = Field(
        default_factory=_default_queue_file,
        description="The queue's SQLite file. Default: `noa-queue.db` in Prefect's home folder.",
    )

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        # A worker that changes its working folder must not find another queue.
        return path.expanduser().absolute()


class RedisConfig(SettingsGroup):
    """How to reach a Redis server."""

    host: str = Field(
        default="localhost",
        pattern=_HOST,
        description="Host name or address, without a scheme or a port.",
        examples=["redis.example.com"],
    )
    port: int = Field(default=6379, ge=1, le=65_535, description="Port of the server.")
    username: str | None = Field(default=None, description="ACL user; without one, the default.")
    password: SecretStr | None = Field(default=None, description="Password of the user.")
    db: int = Field(default=0, ge=0, le=1_000_000, description="Number of the database.")
    tls: bool = Field(default=False, description="Whether the connection is encrypted.")


class RabbitMQConfig(SettingsGroup):
    """How to reach a RabbitMQ server."""

    hostname: str = Field(
        default="localhost",
        pattern=_HOST,
        description="Host name or address, without a scheme or a port.",
        examples=["rabbitmq.example.com"],
    )
    port: int = Field(default=5672, ge=1, le=65_535, description="Port of the AMQP listener.")
    username: str | None = Field(default=None, description="User; without one, the server's guest.")
    password: SecretStr | None = Field(default=None, description="Password of the user.")
    vhost: str = Field(default="/", min_length=1, max_length=255, description="Virtual host.")
    tls: bool = Field(
        default=False,
        description="Whether the connection is encrypted; the port is often 5671 then.",
    )


class KafkaConfig(SettingsGroup):
    """How to reach a Kafka cluster."""

    brokers: tuple[BootstrapServer, ...] = Field(
        min_length=1, description="The bootstrap servers, each as `host:port`."
    )


class SqsConfig(SettingsGroup):
    """How to reach AWS SQS."""

    region: str = Field(
        pattern=r"^[a-z0-9-]+$", description="The queues' region.", examples=["eu-central-1"]
    )
    access_key_id: str | None = Field(
        default=None,
        description="Id of the access key; without one, AWS's own chain of credentials is asked.",
    )
    secret_access_key: SecretStr | None = Field(
        default=None, description="The secret half of the access key."
    )
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description="URL of another service that speaks SQS, such as a test server's.",
        examples=["http://localhost:4566"],
    )
    fifo: bool = Field(default=False, description="Whether the queues are FIFO queues.")


class EmbeddedProvider(SettingsGroup):
    """The broker in a file: durable, for several processes on one machine, without a server."""

    type: Literal["embedded"] = Field(default="embedded", description="The embedded broker.")
    config: EmbeddedConfig = Field(default_factory=EmbeddedConfig, description="Its file.")

    @property
    def url(self) -> str:
        """`embedded:///absolute/path`."""
        return f"embedded://{quote(self.config.path.as_posix())}"


class RedisProvider(SettingsGroup):
    """Redis streams."""

    type: Literal["redis"] = Field(default="redis", description="Redis.")
    config: RedisConfig = Field(
        default_factory=RedisConfig, description="Its address, login and database."
    )

    @property
    def url(self) -> str:
        """`redis://user:password@host:port/db`, or `rediss://` with TLS; holds the password."""
        config = self.config
        login = _login(config.username, config.password)
        scheme = "rediss" if config.tls else "redis"
        return f"{scheme}://{login}{_bracketed(config.host)}:{config.port}/{config.db}"


class RabbitMQProvider(SettingsGroup):
    """RabbitMQ."""

    type: Literal["rabbitmq"] = Field(default="rabbitmq", description="RabbitMQ.")
    config: RabbitMQConfig = Field(
        default_factory=RabbitMQConfig, description="Its address, login and virtual host."
    )

    @property
    def url(self) -> str:
        """`amqp://user:password@host:port/vhost`, `amqps://` with TLS; holds the password."""
        config = self.config
        login = _login(config.username, config.password)
        vhost = quote(config.vhost, safe="")
        scheme = "amqps" if config.tls else "amqp"
        return f"{scheme}://{login}{_bracketed(config.hostname)}:{config.port}/{vhost}"


class KafkaProvider(SettingsGroup):
    """Apache Kafka."""

    type: Literal["kafka"] = Field(default="kafka", description="Apache Kafka.")
    config: KafkaConfig = Field(description="Its brokers.")

    @property
    def url(self) -> str:
        """`kafka://host:port,host:port`."""
        return f"kafka://{','.join(self.config.brokers)}"


class SqsProvider(SettingsGroup):
    """AWS SQS."""

    type: Literal["sqs"] = Field(default="sqs", description="AWS SQS.")
    config: SqsConfig = Field(description="Its region, key and endpoint.")

    @property
    def url(self) -> str:
        """`sqs://id:secret@region?endpoint=…&fifo=true`; holds the secret."""
        config = self.config
        login = _login(config.access_key_id, config.secret_access_key)
        options = {"endpoint": config.endpoint} if config.endpoint else {}
        options |= {"fifo": "true"} if config.fifo else {}
        query = f"?{urlencode(options)}" if options else ""
        return f"sqs://{login}{config.region}{query}"


ProviderSettings = Annotated[
    EmbeddedProvider | RedisProvider | RabbitMQProvider | KafkaProvider | SqsProvider,
    Field(discriminator="type"),
]


def _login(user: str | None, password: SecretStr | None) -> str:
    """Write the part of a URL before the host, including the `@`, or nothing."""
    name = quote(user or "", safe="")
    if password is None:
        return f"{name}@" if name else ""
    return f"{name}:{quote(password.get_secret_value(), safe='')}@"


def _bracketed(host: str) -> str:
    """Write an IPv6 address as URLs have it."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
