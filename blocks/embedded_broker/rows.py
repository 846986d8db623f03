"""Messages as rows of the embedded broker's tables, and back."""

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from blocks.errors import (
    BrokerError,
    MessageNotAllowedError,
    MessageTooLargeError,
    QueueNameError,
)
from blocks.message import DeadLetter, Delivery, Message, Published, utc_now

#: Bodies above this belong in result storage, with a reference in the message.
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
MAX_QUEUE_NAME: Final = 200

READY: Final = 0
DELAYED: Final = 1

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_encode_json = json.JSONEncoder(ensure_ascii=False).encode

Row = tuple[Any, ...]


class Receipt(NamedTuple):
    """Names one delivery of one row; the lease is drawn anew for each, and so is its fence."""

    seq: int
    lease: int


def now_us() -> int:
    """Now in microseconds since 1970, UTC, as the tables hold it."""
    return to_us(utc_now() - _EPOCH)


def to_us(duration: timedelta) -> int:
    """A duration in whole microseconds."""
    return duration // _MICROSECOND


def moment(microseconds: int) -> datetime:
    """A stamp of the tables as an aware datetime."""
    return _EPOCH + microseconds * _MICROSECOND


def check_name(name: str, what: str = "queue") -> None:
    """Refuse what is surely a mistake: SQLite itself would hold any text.

    Raises:
        QueueNameError: Empty, too long, or with blanks or unprintable characters.
    """
    if not (0 < len(name) <= MAX_QUEUE_NAME and name.isprintable() and " " not in name):
        raise QueueNameError(
            f"{name[:50]!a} can't name a {what};"
            f" give 1 to {MAX_QUEUE_NAME} printable characters without blanks"
        )


def message_row(message: Message, queue: int, now: int) -> Row:
    """The values of `INSERT` for a message published `now`.

    Raises:
        BrokerError: The message can't be held; the error says why.
    """
    delay = to_us(message.delay)
    return (
        queue,
        DELAYED if delay else READY,
        message.priority,
        now + delay if delay else 0,
        0,
        message.deliveries,
        message.generation,
        now,
        secrets.token_hex(16) if message.id is None else message.id,
        message.key,
        _checked_headers(message),
        message.body,
    )


def message_rows(messages: Sequence[Message], queue: int) -> tuple[list[Row], list[Published]]:
    """The rows of all that can be held, and an outcome for each message."""
    now = now_us()
    rows: list[Row] = []
    outcomes: list[Published] = []
    for message in messages:
        try:
            row = message_row(message, queue, now)
        except BrokerError as error:
            outcomes.append(Published(error=error))
        else:
            rows.append(row)
            outcomes.append(Published(id=row[8]))
    return rows, outcomes


def delivery(queue: str, row: Row) -> Delivery:
    """Read a row of `TAKE_READY` or `TAKE_EXPIRED`."""
    seq, lease, priority, deliveries, generation, published_at, id_, key, headers, body = row
    return Delivery(
        queue=queue,
        id=id_,
        body=body,
        headers=_read_headers(headers),
        key=key,
        priority=priority,
        deliveries=deliveries,
        generation=generation,
        published_at=moment(published_at),
        receipt=Receipt(seq, lease),
    )


def dead_letter(provider: str, queue: str, row: Row) -> DeadLetter:
    """Read a row of `BROWSE_DEAD`."""
    (seq, priority, deliveries, generation, published_at, died_at, id_, key) = row[:8]
    (reason, error, error_type, run_id, headers, body) = row[8:]
    return DeadLetter(
        handle=str(seq),
        id=id_,
        provider=provider,
        queue=queue,
        body=body,
        headers=_read_headers(headers),
        key=key,
        priority=priority,
        deliveries=deliveries,
        generation=generation,
        published_at=moment(published_at),
        died_at=moment(died_at),
        reason=reason,
        error=error,
        error_type=error_type,
        run_id=run_id,
    )


def storable(value: str | int) -> str | int:
    """The value, as far as text can be encoded."""
    # The text of an error may hold anything, and must not keep its message from being buried.
    return value if isinstance(value, int) else value.encode(errors="backslashreplace").decode()


def _read_headers(text: str) -> Mapping[str, str]:
    return json.loads(text) if text else {}


def _checked_headers(message: Message) -> str:
    """The headers as JSON, after everything else was looked at too."""
    if len(message.body) > MAX_BODY_BYTES:
        raise MessageTooLargeError(
            f"the body has {len(message.body)} bytes, and the embedded broker takes at most"
            f" {MAX_BODY_BYTES}; store it elsewhere and send a reference"
        )
    headers = dict(message.headers)
    text = _encode_json(headers) if headers else ""
    try:
        f"{text}{message.key}{message.id}".encode()
    except UnicodeEncodeError:
        raise _not_text(message) from None
    return text


def _not_text(message: Message) -> BrokerError:
    parts = {"the key": message.key, "the id": message.id} | {
        f"the header {name!a}": name + value for name, value in message.headers.items()
    }
    named = next(name for name, text in parts.items() if text and not _is_text(text))
    return MessageNotAllowedError(
        f"{named} holds half of a surrogate pair, which no encoding can carry; send text"
    )


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
