"""Messages as they are published: AMQP properties, headers and a body."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

from pika import BasicProperties
from pika.exceptions import AMQPError

from blocks.errors import MessageNotAllowedError, MessageTooLargeError
from blocks.message import Dead, Delivery, Message
from blocks.rabbitmq_broker import headers as names

#: RabbitMQ takes 128 MiB by default. But it keeps bodies in memory on their way; what is larger
#: belongs into an object store.
MAX_BODY_BYTES: Final = 16 * 1024 * 1024

#: Properties and headers have to fit into one frame, of 128 KiB by default; some is left for what a
#: dead letter adds.
_MAX_PROPERTIES_BYTES: Final = 120 * 1024
_MAX_MESSAGE_PROPERTIES_BYTES: Final = 100 * 1024
_LONGEST_SHORT_STRING: Final = 255
#: The lengths of name and text, and the text's type.
_HEADER_OVERHEAD: Final = 6
_LONGEST_ERROR: Final = 4_000
_LONGEST_WORD: Final = 200
_PERSISTENT: Final = 2
#: Names a queue of the connection that asked; RabbitMQ closes the channel of anybody else.
_DIRECT_REPLY: Final = "amq.rabbitmq.reply-to"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HIGHEST_AMQP_PRIORITY: Final = 9
_PROVIDER: Final = "rabbitmq-broker"


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
        names.DEAD_PROVIDER: _PROVIDER,
        names.DEAD_QUEUE: delivery.queue,
        names.DEAD_AT: str(time.time_ns() // 1_000),
        names.DEAD_REASON: verdict.reason,
        names.DEAD_ERROR_TYPE: verdict.error_type,
        names.DEAD_RUN_ID: verdict.run_id,
        names.HANDLE: uuid4().hex,
    }
    limited = {name: _valid(text)[:_LONGEST_WORD] for name, text in reasons.items()}
    limited[names.DEAD_ERROR] = _valid(verdict.error)[:_LONGEST_ERROR]
    properties = _again(delivery, delivery.deliveries, limited, prioritised=prioritised)
    return Outgoing(properties, delivery.body)


def _again(
    delivery: Delivery, deliveries: int, more: dict[str, str], *, prioritised: bool
) -> BasicProperties:
    microseconds = (delivery.published_at - _EPOCH) // timedelta(microseconds=1)
    own = _own_headers(delivery.key, deliveries, delivery.generation, microseconds) | more
    room = _MAX_PROPERTIES_BYTES - sum(_room_for(*header) for header in own.items())
    headers = {**_fitting(delivery.headers, room), **own}
    return _properties(
        delivery.id, headers, delivery.priority if prioritised else None, microseconds
    )


def _fitting(headers: Mapping[str, str], room: int) -> dict[str, str]:
    """The headers that fit into so many bytes, the short ones first.

    As text some are longer than they were sent; rather a header is lost than the message.
    """
    kept: dict[str, str] = {}
    for name, text in sorted(headers.items(), key=lambda header: _room_for(*header)):
        room -= _room_for(name, text)
        if room >= 0 and _length(name) <= _LONGEST_SHORT_STRING:
            kept[name] = text
    return kept


def _room_for(name: str, text: str) -> int:
    return _length(name) + _length(text) + _HEADER_OVERHEAD


def _own_headers(
    key: str | None, deliveries: int, generation: int, microseconds: int
) -> dict[str, str]:
    headers = {names.PUBLISHED: str(microseconds)}
    if key is not None:
        headers[names.KEY] = key
    if deliveries:
        headers[names.DELIVERIES] = str(deliveries)
    if generation:
        headers[names.GENERATION] = str(generation)
    return headers


def _properties(
    message_id: str, headers: dict[str, str], priority: int | None, microseconds: int
) -> BasicProperties:
    properties = BasicProperties(
        message_id=message_id,
        delivery_mode=_PERSISTENT,
        timestamp=max(0, microseconds // 1_000_000),
        priority=None if priority is None else _HIGHEST_AMQP_PRIORITY - priority,
    )
    rest = dict(headers)
    for header, name in names.PROPERTIES.items():
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
        if names.is_reserved(name):
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


def _valid(text: str) -> str:
    return text.encode(errors="replace").decode()
