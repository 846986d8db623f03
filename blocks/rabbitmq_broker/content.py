"""Messages as AMQP properties, headers and a body, and back.

Whoever publishes without this package needs a body alone. `message_id`, `content_type`, `timestamp`,
`priority`, `correlation_id`, `reply_to`, `type` and `app_id` are understood; every header is taken as
text. What AMQP has no place for are headers that begin with `noa:`.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from pika import BasicProperties
from pika.exceptions import AMQPError

from blocks.errors import MessageNotAllowedError, MessageTooLargeError
from blocks.message import DEFAULT_PRIORITY, LOWEST_PRIORITY, Dead, DeadLetter, Delivery, Message
from blocks.rabbitmq_broker.field_table import as_text

#: RabbitMQ takes 128 MiB by default. But it keeps bodies in memory on their way; what is larger
#: belongs into an object store.
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
#: Properties and headers have to fit into one frame, of 128 KiB by default; some is left for what a
#: dead letter adds.
_MAX_PROPERTIES_BYTES: Final = 120 * 1024
_MAX_MESSAGE_PROPERTIES_BYTES: Final = 100 * 1024
_LONGEST_SHORT_STRING: Final = 255

_PROVIDER: Final = "rabbitmq-broker"
_OWN: Final = "noa:"
_KEY: Final = "noa:key"
_DELIVERIES: Final = "noa:deliveries"
_GENERATION: Final = "noa:generation"
_PUBLISHED: Final = "noa:published"
_HANDLE: Final = "noa:handle"
#: RabbitMQ's own headers, which say how this copy came here; and those that make it send copies.
_RABBITMQ: Final = frozenset({"x-death", "x-delivery-count", "CC", "BCC"})
_RABBITMQ_PREFIXES: Final = ("x-first-death-", "x-last-death-")
#: Header → the property that has it as its text.
_PROPERTIES: Final = {
    "content-type": "content_type",
    "content-encoding": "content_encoding",
    "correlation-id": "correlation_id",
    "reply-to": "reply_to",
    "type": "type",
    "app-id": "app_id",
}
#: Names a queue of the connection that asked; RabbitMQ closes the channel of anybody else.
_DIRECT_REPLY: Final = "amq.rabbitmq.reply-to"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HIGHEST_AMQP_PRIORITY: Final = 9
_TEXT_LIMIT: Final = 4_000
#: Reasons of RabbitMQ's own dead-lettering → ours.
_REASONS: Final = {"delivery_limit": "too-many-deliveries", "expired": "expired"}


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as a channel has delivered it."""

    tag: int
    redelivered: bool
    properties: BasicProperties
    body: bytes


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message as a channel publishes it."""

    properties: BasicProperties
    body: bytes


def encode(message: Message, message_id: str, *, prioritised: bool) -> Outgoing:
    """Write a new message.

    Raises:
        MessageTooLargeError: The body is above `MAX_BODY_BYTES`.
        MessageNotAllowedError: A header, the key or the id can't be held.
    """
    size = len(message.body)
    if size > MAX_BODY_BYTES:
        raise MessageTooLargeError(
            f"the body has {size} bytes, and a RabbitMQ broker takes {MAX_BODY_BYTES}; "
            "publish a reference to it instead"
        )
    _check_headers(message.headers)
    microseconds = time.time_ns() // 1_000
    headers = _own_headers(message.key, message.deliveries, message.generation, microseconds)
    priority = message.priority if prioritised else None
    properties = _properties(message_id, {**message.headers, **headers}, priority, microseconds)
    _check_size(properties, message)
    return Outgoing(properties, message.body)


def encode_again(delivery: Delivery, *, deliveries: int, prioritised: bool) -> Outgoing:
    """Write a delivery again: the same message, which has been delivered so often."""
    return Outgoing(_again(delivery, deliveries, {}, prioritised=prioritised), delivery.body)


def encode_dead(delivery: Delivery, verdict: Dead, *, prioritised: bool) -> Outgoing:
    """Write a delivery as a dead letter: the same message, with what it died of."""
    reasons = {
        "noa:dead-provider": _PROVIDER,
        "noa:dead-queue": delivery.queue,
        "noa:dead-at": str(time.time_ns() // 1_000),
        "noa:dead-reason": verdict.reason,
        "noa:dead-error": verdict.error,
        "noa:dead-error-type": verdict.error_type,
        "noa:dead-run-id": verdict.run_id,
        _HANDLE: uuid4().hex,
    }
    limited = {name: _valid(text)[:_TEXT_LIMIT] for name, text in reasons.items()}
    properties = _again(delivery, delivery.deliveries, limited, prioritised=prioritised)
    return Outgoing(properties, delivery.body)


def to_delivery(queue: str, incoming: Incoming, receipt: object, *, prioritised: bool) -> Delivery:
    """Read a message, whoever published it and however strange it is."""
    properties, own = incoming.properties, _headers_of(incoming)
    # A producer may have set the header himself; on a first delivery it isn't RabbitMQ's.
    count = _number(own.get("x-delivery-count")) if incoming.redelivered else 0
    return Delivery(
        queue=queue,
        id=_id_of(properties) or uuid4().hex,
        body=incoming.body,
        headers=_foreign_headers(properties),
        key=as_text(own[_KEY]) if _KEY in own else None,
        priority=_priority(properties) if prioritised else DEFAULT_PRIORITY,
        deliveries=_number(own.get(_DELIVERIES)) + count + 1,
        generation=_number(own.get(_GENERATION)),
        published_at=_published(properties, own),
        receipt=receipt,
    )


def to_dead_letter(queue: str, incoming: Incoming, handle: str, *, prioritised: bool) -> DeadLetter:
    """Read a dead letter: one of ours, or one that RabbitMQ or anybody else put there."""
    properties, own = incoming.properties, _headers_of(incoming)
    reason, died = _death(own)
    return DeadLetter(
        handle=handle,
        id=_id_of(properties) or handle,
        provider=as_text(own.get("noa:dead-provider", _PROVIDER)),
        queue=queue,
        body=incoming.body,
        headers=_foreign_headers(properties),
        key=as_text(own[_KEY]) if _KEY in own else None,
        priority=_priority(properties) if prioritised else DEFAULT_PRIORITY,
        deliveries=_number(own.get(_DELIVERIES)),
        generation=_number(own.get(_GENERATION)),
        published_at=_published(properties, own),
        died_at=died,
        reason=reason,
        error=as_text(own.get("noa:dead-error")),
        error_type=as_text(own.get("noa:dead-error-type")),
        run_id=as_text(own.get("noa:dead-run-id")),
    )


def handle_of(incoming: Incoming) -> str | None:
    """The handle that a dead letter of ours carries."""
    handle = _headers_of(incoming).get(_HANDLE)
    return handle if isinstance(handle, str) and handle else None


def fingerprint(incoming: Incoming) -> bytes:
    """What two messages have in common that can't be told apart."""
    properties = incoming.properties
    headers = {**_headers_of(incoming)}
    headers.pop("x-delivery-count", None)
    fields = [properties.message_id, properties.timestamp, properties.content_type, headers]
    return json.dumps(fields, default=as_text, sort_keys=True).encode() + incoming.body


def _again(
    delivery: Delivery, deliveries: int, more: Mapping[str, str], *, prioritised: bool
) -> BasicProperties:
    microseconds = (delivery.published_at - _EPOCH) // timedelta(microseconds=1)
    own = _own_headers(delivery.key, deliveries, delivery.generation, microseconds) | more
    foreign = dict(delivery.headers)
    while True:
        headers = {**foreign, **own}
        properties = _properties(
            delivery.id, headers, delivery.priority if prioritised else None, microseconds
        )
        if not foreign or _size(properties) <= _MAX_PROPERTIES_BYTES:
            return properties
        # As text some values are longer than they were sent: rather lose a header than the message.
        del foreign[max(foreign, key=lambda name: len(foreign[name]))]


def _own_headers(
    key: str | None, deliveries: int, generation: int, microseconds: int
) -> dict[str, str]:
    headers = {_PUBLISHED: str(microseconds)}
    if key is not None:
        headers[_KEY] = key
    if deliveries:
        headers[_DELIVERIES] = str(deliveries)
    if generation:
        headers[_GENERATION] = str(generation)
    return headers


def _properties(
    message_id: str, headers: dict[str, str], priority: int | None, microseconds: int
) -> BasicProperties:
    properties = BasicProperties(
        message_id=message_id,
        delivery_mode=2,
        timestamp=max(0, microseconds // 1_000_000),
        priority=None if priority is None else _HIGHEST_AMQP_PRIORITY - priority,
    )
    rest = dict(headers)
    for header, name in _PROPERTIES.items():
        text = headers.get(header)
        if text is not None and _fits_property(text):
            setattr(properties, name, text)
            del rest[header]
    properties.headers = rest
    return properties


def _fits_property(text: str) -> bool:
    return _length(text) <= _LONGEST_SHORT_STRING and not text.startswith(_DIRECT_REPLY)


def _check_headers(headers: Mapping[str, str]) -> None:
    for name in headers:
        if name in _RABBITMQ or name.startswith((_OWN, *_RABBITMQ_PREFIXES)):
            raise MessageNotAllowedError(
                f"the header {name!r} has a meaning to RabbitMQ or to this package; rename it"
            )
        if _length(name) > _LONGEST_SHORT_STRING:
            raise MessageNotAllowedError(
                f"the header {name[:50]!r}… has a name of {_length(name)} bytes; give "
                f"{_LONGEST_SHORT_STRING} at most"
            )


def _check_size(properties: BasicProperties, message: Message) -> None:
    try:
        size = _size(properties)
    except UnicodeEncodeError as error:
        raise MessageNotAllowedError(
            f"{_place_of(error.object, message)} is not valid Unicode: {error.object!r}"
        ) from error
    except AMQPError as error:
        raise MessageNotAllowedError(
            f"the id is longer than {_LONGEST_SHORT_STRING} bytes"
        ) from error
    if size > _MAX_MESSAGE_PROPERTIES_BYTES:
        raise MessageNotAllowedError(
            f"headers and key have {size} bytes; give {_MAX_MESSAGE_PROPERTIES_BYTES} at most"
        )


def _place_of(text: str, message: Message) -> str:
    for name, value in message.headers.items():
        if text in (name, value):
            return f"header {name!r}"
    return "the key" if text == message.key else "the id"


def _size(properties: BasicProperties) -> int:
    return sum(len(piece) for piece in properties.encode())


def _length(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _headers_of(incoming: Incoming) -> Mapping[str, Any]:
    return incoming.properties.headers or {}


def _foreign_headers(properties: BasicProperties) -> dict[str, str]:
    headers = {
        header: _decoded(text)
        for header, name in _PROPERTIES.items()
        if (text := getattr(properties, name)) is not None
    }
    for name, value in (properties.headers or {}).items():
        if name not in _RABBITMQ and not name.startswith((_OWN, *_RABBITMQ_PREFIXES)):
            headers[name] = as_text(value)
    return headers


def _decoded(text: str | bytes) -> str:
    """Read a short string; pika hands on as bytes what isn't UTF-8."""
    return text if isinstance(text, str) else text.decode(errors="backslashreplace")


def _id_of(properties: BasicProperties) -> str:
    return _decoded(properties.message_id or "")


def _priority(properties: BasicProperties) -> int:
    priority = properties.priority
    if priority is None:
        return DEFAULT_PRIORITY
    return LOWEST_PRIORITY - min(priority, _HIGHEST_AMQP_PRIORITY)


def _number(value: Any) -> int:
    """Read a count; bounded, as somebody else may have written it."""
    text = as_text(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0  # noqa: PLR2004


def _published(properties: BasicProperties, own: Mapping[str, Any]) -> datetime:
    for value, unit in ((own.get(_PUBLISHED), 1), (properties.timestamp, 1_000_000)):
        if value is not None and (moment := _moment(value, unit)) is not None:
            return moment
    return datetime.now(UTC)


def _moment(value: Any, unit: int) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=int(as_text(value)[:20]) * unit)
    except (ValueError, OverflowError):
        return None


def _death(own: Mapping[str, Any]) -> tuple[str, datetime]:
    """Why and when it died, by our own headers or by RabbitMQ's."""
    if died := _moment(own.get("noa:dead-at", "-"), 1):
        return as_text(own.get("noa:dead-reason")), died
    deaths = own.get("x-death")
    last: Any = deaths[0] if isinstance(deaths, list) and deaths else {}
    if not isinstance(last, dict):
        last = {}
    reason, when = as_text(last.get("reason")), last.get("time")
    moment = when if isinstance(when, datetime) else datetime.now(UTC)
    return _REASONS.get(reason, reason or "failed"), moment


def _valid(text: str) -> str:
    return text.encode(errors="replace").decode()
