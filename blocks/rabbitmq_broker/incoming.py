"""Messages as they are delivered, whoever published them.

Whoever publishes without this package needs a body alone. The properties `message_id`, `timestamp`
and `priority` are understood, and those that `headers.py` names are headers to us. Every header is
taken as text, whatever its type.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast
from uuid import uuid4

from pika import BasicProperties

from blocks.message import DEFAULT_PRIORITY, LOWEST_PRIORITY, DeadLetter, Delivery
from blocks.rabbitmq_broker import headers as names
from blocks.rabbitmq_broker.field_table import as_text

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_HIGHEST_AMQP_PRIORITY: Final = 9
_PROVIDER: Final = "rabbitmq-broker"
_LONGEST_KEY: Final = 100 * 1024
#: Reasons of RabbitMQ's own dead-lettering → ours.
_REASONS: Final = {"delivery_limit": "too-many-deliveries", "expired": "expired"}


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message as a channel has delivered it."""

    tag: int
    redelivered: bool
    properties: BasicProperties
    body: bytes


def to_delivery(queue: str, incoming: Incoming, receipt: object, *, prioritised: bool) -> Delivery:
    """Read a message, whoever published it and however strange it is."""
    properties, own = incoming.properties, _headers_of(incoming)
    # A producer may have set the header himself; on a first delivery it isn't RabbitMQ's.
    count = _number(own.get(names.DELIVERY_COUNT)) if incoming.redelivered else 0
    return Delivery(
        queue=queue,
        id=_id_of(properties) or uuid4().hex,
        body=incoming.body,
        headers=_foreign_headers(properties),
        key=_key(own),
        priority=_priority(properties) if prioritised else DEFAULT_PRIORITY,
        deliveries=_number(own.get(names.DELIVERIES)) + count + 1,
        generation=_number(own.get(names.GENERATION)),
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
        provider=as_text(own.get(names.DEAD_PROVIDER, _PROVIDER)),
        queue=queue,
        body=incoming.body,
        headers=_foreign_headers(properties),
        key=_key(own),
        priority=_priority(properties) if prioritised else DEFAULT_PRIORITY,
        deliveries=_number(own.get(names.DELIVERIES)),
        generation=_number(own.get(names.GENERATION)),
        published_at=_published(properties, own),
        died_at=died,
        reason=reason,
        error=as_text(own.get(names.DEAD_ERROR)),
        error_type=as_text(own.get(names.DEAD_ERROR_TYPE)),
        run_id=as_text(own.get(names.DEAD_RUN_ID)),
    )


def handle_of(incoming: Incoming) -> str | None:
    """The handle that a dead letter of ours carries."""
    handle = _headers_of(incoming).get(names.HANDLE)
    return handle if isinstance(handle, str) and handle else None


def fingerprint(incoming: Incoming) -> bytes:
    """What two messages have in common that can't be told apart."""
    properties = incoming.properties
    headers = {**_headers_of(incoming)}
    headers.pop(names.DELIVERY_COUNT, None)
    fields = [properties.message_id, properties.timestamp, properties.content_type, headers]
    return json.dumps(fields, default=as_text, sort_keys=True).encode() + incoming.body


def _headers_of(incoming: Incoming) -> Mapping[str, Any]:
    return incoming.properties.headers or {}


def _foreign_headers(properties: BasicProperties) -> dict[str, str]:
    headers = {
        header: _decoded(text)
        for header, name in names.PROPERTIES.items()
        if (text := getattr(properties, name)) is not None
    }
    for name, value in (properties.headers or {}).items():
        if not names.is_reserved(name):
            headers[name] = as_text(value)
    return headers


def _decoded(text: str | bytes) -> str:
    """Read a short string; pika hands on as bytes what isn't UTF-8."""
    return text if isinstance(text, str) else text.decode(errors="backslashreplace")


def _id_of(properties: BasicProperties) -> str:
    message_id: Any = properties.message_id or ""
    # What isn't UTF-8 would be too long as text; what stands for it is as unique.
    return message_id if isinstance(message_id, str) else hashlib.sha256(message_id).hexdigest()


def _key(own: Mapping[str, Any]) -> str | None:
    """The key, unless somebody has written one that no moved copy could carry."""
    key = as_text(own[names.KEY]) if names.KEY in own else None
    return None if key is None or len(key.encode()) > _LONGEST_KEY else key


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
    for value, unit in ((own.get(names.PUBLISHED), 1), (properties.timestamp, 1_000_000)):
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
    if died := _moment(own.get(names.DEAD_AT, "-"), 1):
        return as_text(own.get(names.DEAD_REASON)), died
    deaths = own.get(names.DEATHS)
    last = cast("list[Any]", deaths)[0] if isinstance(deaths, list) and deaths else None
    death = cast("dict[str, Any]", last) if isinstance(last, dict) else {}
    reason, when = as_text(death.get("reason")), death.get("time")
    moment = when if isinstance(when, datetime) else datetime.now(UTC)
    return _REASONS.get(reason, reason or "failed"), moment
