"""Messages as fields of stream entries, and back.

An entry has a field `body` with the raw bytes, a field `h:<name>` for each header, and those of
`id`, `key`, `priority`, `deliveries`, `generation`, `published` that differ from what its place
says anyway. Whoever adds an entry by hand needs `body` alone; any other field becomes a header of
its name. An entry without a body is delivered with an empty one.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from blocks.errors import MessageNotAllowedError, MessageTooLargeError
from blocks.message import LOWEST_PRIORITY, DeadLetter, Delivery, Message, utc_now
from blocks.redis_broker.keys import DEFAULT_PRIORITIES, band_number
from blocks.redis_broker.wire import Argument, Fields

#: Redis takes 512 MB. But it answers nobody else while it copies a body, keeps every one in memory,
#: and sends a batch in one answer; what is larger belongs into an object store.
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
#: What is sent or answered at once ends with the message that crosses this, so that it comes within
#: the time-out, and holds up nobody else for long.
BATCH_BYTES: Final = 8 * 1024 * 1024

_MAX_HEADERS: Final = 1_000
_HEADER: Final = b"h:"
_DEAD: Final = b"dead:"
_OWN: Final = frozenset(
    {b"body", b"id", b"key", b"priority", b"deliveries", b"generation", b"published"}
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: An entry's id says nothing of its band, and two bands may give the same one.
_ID_PREFIXES: Final = {1: "high-", 2: "", 3: "low-"}


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a delivery is pending, and which of the entry's deliveries it is."""

    band: int
    entry: str
    count: int

    def __str__(self) -> str:
        """As scripts take it."""
        return f"{self.band} {self.entry} {self.count}"


def encode(message: Message, message_id: str, *, band: int | None = None) -> list[Argument]:
    """Flatten a message into names and values.

    Args:
        message: What to publish.
        message_id: Its id.
        band: The number of the band whose default needs not be written; None for the message's own.

    Raises:
        MessageTooLargeError: The body is above `MAX_BODY_BYTES`.
        MessageNotAllowedError: There are too many headers, or one is not valid Unicode.
    """
    size = len(message.body)
    if size > MAX_BODY_BYTES:
        raise MessageTooLargeError(
            f"the body has {size} bytes, and a Redis broker takes {MAX_BODY_BYTES}; "
            "publish a reference to it instead"
        )
    if len(message.headers) > _MAX_HEADERS:
        raise MessageNotAllowedError(
            f"there are {len(message.headers)} headers; give {_MAX_HEADERS} at most"
        )
    try:
        return _flatten(message, message_id, band or band_number(message.priority))
    except UnicodeEncodeError as error:
        raise MessageNotAllowedError(
            f"{_place_of(error.object, message)} is not valid Unicode: {error.object!r}"
        ) from error


def _flatten(message: Message, message_id: str, band: int) -> list[Argument]:
    fields: list[Argument] = [b"body", message.body, b"id", message_id.encode()]
    for name, value in message.headers.items():
        fields += (_HEADER + name.encode(), value.encode())
    if message.key is not None:
        fields += (b"key", message.key.encode())
    if message.priority != DEFAULT_PRIORITIES[band]:
        fields += (b"priority", message.priority)
    if message.deliveries:
        fields += (b"deliveries", message.deliveries)
    if message.generation:
        fields += (b"generation", message.generation)
    return fields


def _place_of(text: str, message: Message) -> str:
    for name, value in message.headers.items():
        if text in (name, value):
            return f"header {name!r}"
    return "the key" if text == message.key else "the id"


def to_delivery(queue: str, receipt: Receipt, fields: Fields) -> Delivery:
    """Read an entry, whoever added it and however strange it is."""
    message_id, key = fields.get(b"id"), fields.get(b"key")
    return Delivery(
        queue=queue,
        id=_text(message_id) if message_id else _ID_PREFIXES[receipt.band] + receipt.entry,
        body=fields.get(b"body", b""),
        headers=_headers(fields),
        key=None if key is None else _text(key),
        priority=_priority(fields, receipt.band),
        deliveries=_number(fields, b"deliveries", 0) + receipt.count,
        generation=_number(fields, b"generation", 0),
        published_at=_published(fields, receipt.entry),
        receipt=receipt,
    )


def to_dead_letter(queue: str, entry: str, fields: Fields) -> DeadLetter:
    """Read a dead letter; its entry id says when it died."""
    key = fields.get(b"key")
    return DeadLetter(
        handle=entry,
        id=_text(fields.get(b"id") or entry.encode()),
        provider="redis-broker",
        queue=queue,
        body=fields.get(b"body", b""),
        headers=_headers(fields),
        key=None if key is None else _text(key),
        priority=_priority(fields, 2),
        deliveries=_number(fields, b"deliveries", 0),
        generation=_number(fields, b"generation", 0),
        published_at=_published(fields, entry),
        died_at=_moment(entry.partition("-")[0]),
        reason=_text(fields.get(b"dead:reason", b"")),
        error=_text(fields.get(b"dead:error", b"")),
        error_type=_text(fields.get(b"dead:error_type", b"")),
        run_id=_text(fields.get(b"dead:run_id", b"")),
    )


def milliseconds(delay: timedelta) -> int:
    """A delay as scripts take it: rounded up, so that nothing comes before its time."""
    return -(-delay // timedelta(milliseconds=1))


def _headers(fields: Fields) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in fields.items():
        if name.startswith(_HEADER):
            headers[_text(name[2:])] = _text(value)
        elif name not in _OWN and not name.startswith(_DEAD):
            headers.setdefault(_text(name), _text(value))
    return headers


def _priority(fields: Fields, band: int) -> int:
    default = DEFAULT_PRIORITIES[band]
    priority = _number(fields, b"priority", default)
    return priority if priority <= LOWEST_PRIORITY else default


def _number(fields: Fields, name: bytes, default: int) -> int:
    value = fields.get(name, b"")
    # Bounded, as somebody else may have written it.
    return int(value) if value.isdigit() and len(value) < 10 else default  # noqa: PLR2004


def _published(fields: Fields, entry: str) -> datetime:
    value = fields.get(b"published")
    return _moment(_text(value) if value else entry.partition("-")[0])


def _moment(milliseconds: str) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=int(milliseconds))
    except (ValueError, OverflowError):
        # Entry ids may be chosen by hand, up to 2^64 - 1.
        return utc_now()


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
