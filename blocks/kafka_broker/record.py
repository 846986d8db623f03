"""Messages as Kafka's records, and back.

The body is the record's value, the key its key, each header a header. What Kafka has no place for
stands in headers that begin with `noa-`; `OWN_HEADERS` lists them, and nothing else of that name
is touched. Others publish plain records: without `noa-id`, a record's id is `topic/partition/offset`,
and it goes along wherever the message is moved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from blocks.errors import MessageNotAllowedError, MessageTooLargeError
from blocks.message import DEFAULT_PRIORITY, Dead, DeadLetter, Delivery, Message, utc_now

#: Kafka takes a record of 1,048,588 bytes unless it is told otherwise (`max.message.bytes`); the
#: difference is for key and headers.
MAX_BODY_BYTES: Final = 1_000_000

Header = tuple[str, bytes | None]

_ID: Final = "noa-id"
_DELIVERIES: Final = "noa-deliveries"
_GENERATION: Final = "noa-generation"
_PUBLISHED: Final = "noa-published"
_DUE: Final = "noa-due"
_KEY: Final = "noa-key"
_TOPIC: Final = "noa-topic"
_PARTITION: Final = "noa-partition"
_OFFSET: Final = "noa-offset"
_DEAD: Final = "noa-dead-"
_DIED: Final = f"{_DEAD}at"
_REASON: Final = f"{_DEAD}reason"
_ERROR: Final = f"{_DEAD}error"
_ERROR_TYPE: Final = f"{_DEAD}error-type"
_RUN: Final = f"{_DEAD}run-id"
_PROVIDER: Final = f"{_DEAD}provider"
_QUEUE: Final = f"{_DEAD}queue"
#: What we add, and take away again before anybody sees the headers.
OWN_HEADERS: Final = frozenset(
    {_ID, _DELIVERIES, _GENERATION, _PUBLISHED, _DUE, _KEY, _TOPIC, _PARTITION, _OFFSET}
    | {_DIED, _REASON, _ERROR, _ERROR_TYPE, _RUN, _PROVIDER, _QUEUE}
)
_MAX_ERROR: Final = 8_192
_LONGEST_NUMBER: Final = 15
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_NONE: Final[Sequence[Header]] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A record to produce; without a value it is a tombstone."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = _NONE

    @property
    def size(self) -> int:
        """About the bytes that it takes."""
        headers = sum(len(name) + len(value or b"") + 8 for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers + 64


@dataclass(slots=True, eq=False)
class Entry:
    """A record that was read, with what its headers say of the message."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    raw: Sequence[Header]
    #: When it was appended, in milliseconds since 1970.
    timestamp: int
    headers: dict[str, str] = field(default_factory=dict[str, str])
    own: dict[str, bytes] = field(default_factory=dict[str, bytes])

    @property
    def id(self) -> str:
        """The same for every delivery of the message."""
        own = self.own.get(_ID)
        return text_of(own) if own else "/".join(map(str, self.coordinates))

    @property
    def coordinates(self) -> tuple[str, int, int]:
        """Topic, partition and offset at which the message was first seen."""
        topic = self.own.get(_TOPIC)
        if topic is None:
            return self.topic, self.partition, self.offset
        return text_of(topic), _number(self.own, _PARTITION), _number(self.own, _OFFSET)

    @property
    def message_key(self) -> bytes | None:
        """The message's own key; that of the record may be the handle of a lease or a letter."""
        return self.own.get(_KEY) if self.topic.endswith((".held", ".dlt")) else self.key

    @property
    def deliveries(self) -> int:
        """How often the message was delivered before it came here."""
        return _number(self.own, _DELIVERIES)

    @property
    def generation(self) -> int:
        """How often it was redriven."""
        return _number(self.own, _GENERATION)

    @property
    def published(self) -> int:
        """When the message was published, in milliseconds since 1970."""
        return _number(self.own, _PUBLISHED) or self.timestamp

    @property
    def due(self) -> int:
        """When it may be delivered, in milliseconds since 1970; 0 for at once."""
        return _number(self.own, _DUE)


def read(message: Any) -> Entry:
    """Read a record, whoever produced it and however strange it is; no message breaks this."""
    entry = Entry(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        key=message.key(),
        value=message.value(),
        raw=message.headers() or _NONE,
        timestamp=message.timestamp()[1],
    )
    for name, value in entry.raw:
        if name in OWN_HEADERS:
            entry.own[name] = value or b""
        else:
            entry.headers[name] = text_of(value or b"")
    return entry


def delivery_of(entry: Entry, queue: str, deliveries: int, receipt: object) -> Delivery:
    """What a consumer is handed."""
    key = entry.message_key
    return Delivery(
        queue=queue,
        id=entry.id,
        body=entry.value or b"",
        headers=entry.headers,
        key=None if key is None else text_of(key),
        priority=DEFAULT_PRIORITY,
        deliveries=deliveries,
        generation=entry.generation,
        published_at=_moment(entry.published),
        receipt=receipt,
    )


def encode(message: Message, topic: str, message_id: str) -> Record:
    """Write a message to publish.

    Raises:
        MessageTooLargeError: The body is above `MAX_BODY_BYTES`.
        MessageNotAllowedError: A header is one of `OWN_HEADERS`, or something isn't valid Unicode.
    """
    size = len(message.body)
    if size > MAX_BODY_BYTES:
        raise MessageTooLargeError(
            f"the body has {size} bytes, and a Kafka broker takes {MAX_BODY_BYTES}; "
            "publish a reference to it instead"
        )
    if taken := OWN_HEADERS & message.headers.keys():
        raise MessageNotAllowedError(
            f"header {min(taken)!r} is one of this provider's own; give another name"
        )
    own: dict[str, str | int] = {_ID: message_id}
    if message.deliveries:
        own[_DELIVERIES] = message.deliveries
    if message.generation:
        own[_GENERATION] = message.generation
    if message.delay:
        own |= {_PUBLISHED: now_ms(), _DUE: now_ms() + milliseconds(message.delay)}
    try:
        key = None if message.key is None else message.key.encode()
        headers = [(name, value.encode()) for name, value in message.headers.items()]
        headers += [(name, str(value).encode()) for name, value in own.items()]
        [name.encode() for name in message.headers]
    except UnicodeEncodeError as error:
        raise MessageNotAllowedError(
            f"{_place_of(error.object, message)} is not valid Unicode: {error.object!r}"
        ) from error
    return Record(topic=topic, key=key, value=message.body, headers=headers)


def moved(entry: Entry, topic: str, *, deliveries: int, due: int = 0) -> Record:
    """The record of a message in another topic, with the headers it was published with."""
    return Record(
        topic=topic,
        key=entry.message_key,
        value=entry.value or b"",
        headers=_moved_headers(entry, deliveries=deliveries, due=due),
    )


def parked(entry: Entry, topic: str, handle: bytes, *, deliveries: int, due: int) -> Record:
    """The record of a message that is held without its partition; the handle ends it."""
    return _keyed(entry, topic, handle, _moved_headers(entry, deliveries=deliveries, due=due))


def dead(entry: Entry, topic: str, queue: str, verdict: Dead, *, deliveries: int) -> Record:
    """The record of a dead letter, under a handle that no other has."""
    texts = {
        _PROVIDER: "kafka-broker",
        _QUEUE: queue,
        _DIED: str(now_ms()),
        _REASON: verdict.reason,
        _ERROR: verdict.error[:_MAX_ERROR],
        _ERROR_TYPE: verdict.error_type,
        _RUN: verdict.run_id,
    }
    headers = _moved_headers(entry, deliveries=deliveries)
    headers += [(name, text.encode(errors="replace")) for name, text in texts.items() if text]
    return _keyed(entry, topic, uuid4().hex.encode(), headers)


def dead_letter_of(entry: Entry, queue: str) -> DeadLetter:
    """Read a dead letter."""
    own, key = entry.own, entry.message_key

    def text(name: str) -> str:
        return text_of(own.get(name, b""))

    return DeadLetter(
        handle=text_of(entry.key or b""),
        id=entry.id,
        provider=text(_PROVIDER) or "kafka-broker",
        queue=text(_QUEUE) or queue,
        body=entry.value or b"",
        headers=entry.headers,
        key=None if key is None else text_of(key),
        priority=DEFAULT_PRIORITY,
        deliveries=entry.deliveries,
        generation=entry.generation,
        published_at=_moment(entry.published),
        died_at=_moment(_number(own, _DIED) or entry.timestamp),
        reason=text(_REASON),
        error=text(_ERROR),
        error_type=text(_ERROR_TYPE),
        run_id=text(_RUN),
    )


def text_of(value: bytes | str) -> str:
    """Read bytes of any kind."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def milliseconds(delay: timedelta) -> int:
    """A delay, rounded up, so that nothing comes before its time."""
    return -(-delay // _MILLISECOND)


def now_ms() -> int:
    """Now, in milliseconds since 1970."""
    return (utc_now() - _EPOCH) // _MILLISECOND


def until(due: int) -> timedelta:
    """How long it is until a time in milliseconds since 1970."""
    return timedelta(milliseconds=due - now_ms())


def _keyed(entry: Entry, topic: str, handle: bytes, headers: list[Header]) -> Record:
    if (key := entry.message_key) is not None:
        headers.append((_KEY, key))
    return Record(topic=topic, key=handle, value=entry.value or b"", headers=headers)


def _moved_headers(entry: Entry, *, deliveries: int, due: int = 0) -> list[Header]:
    topic, partition, offset = entry.coordinates
    own: dict[str, str | int] = {
        _ID: entry.id,
        _DELIVERIES: deliveries,
        _PUBLISHED: entry.published,
        _TOPIC: topic,
        _PARTITION: partition,
        _OFFSET: offset,
    }
    if entry.generation:
        own[_GENERATION] = entry.generation
    if due:
        own[_DUE] = due
    headers = [one for one in entry.raw if one[0] not in OWN_HEADERS]
    return headers + [(name, str(value).encode()) for name, value in own.items()]


def _number(own: Mapping[str, bytes], name: str) -> int:
    value = own.get(name, b"")
    # Bounded, as somebody else may have written it.
    return int(value) if value.isdigit() and len(value) <= _LONGEST_NUMBER else 0


def _moment(milliseconds_: int) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds_)
    except OverflowError:
        return utc_now()


def _place_of(text: str, message: Message) -> str:
    for name, value in message.headers.items():
        if text in (name, value):
            return f"header {name!r}"
    return "the key" if text == message.key else "the id"
