"""URLs of RabbitMQ: https://www.rabbitmq.com/docs/uri-spec, and several hosts beside that."""

from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from blocks.errors import BrokerConfigurationError

AMQP_PORT: Final = 5672
AMQPS_PORT: Final = 5671

_OPTIONS: Final = frozenset(
    {"lease_seconds", "heartbeat_seconds", "prefetch", "queue_type", "declare", "exchange"}
    | {"tls_ca_file"}
)
_SCHEMES: Final = ("amqp", "amqps")
_LARGEST_PORT: Final = 65_535


def fields_of(url: str) -> dict[str, object]:
    """Cut a URL into the fields of the block.

    Raises:
        BrokerConfigurationError: An unknown scheme or option.
        ValueError: Anything else that is wrong with it.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise BrokerConfigurationError(
            f"the RabbitMQ URL begins with {parts.scheme!r}; write amqp:// or amqps://"
        )
    fields: dict[str, object] = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    if unknown := fields.keys() - _OPTIONS:
        raise BrokerConfigurationError(
            f"the RabbitMQ URL has unknown options {', '.join(sorted(unknown))}; "
            f"{', '.join(sorted(_OPTIONS))} can be set there"
        )
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    if username:
        fields["username"] = unquote(username)
    if password:
        fields["password"] = unquote(password)
    if hosts:
        for host in hosts.split(","):
            split_host(host, AMQP_PORT)
        fields["host"] = hosts
    if vhost := unquote(parts.path.removeprefix("/")):
        fields["vhost"] = vhost
    return fields | {"tls": parts.scheme == "amqps"}


def split_host(text: str, default_port: int) -> tuple[str, int]:
    """Cut `host`, `host:port` or `[address]:port` in two.

    Raises:
        ValueError: The port is no port, or there is no host.
    """
    text = text.strip()
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    number = int(port) if port else default_port
    if not host or not 0 < number <= _LARGEST_PORT:
        raise ValueError("write host:port")
    return host, number
