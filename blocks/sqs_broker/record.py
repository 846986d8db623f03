"""Messages as SQS holds them, and back.

Everything of a message that isn't its body stands in one attribute, `noa`, a JSON object: SQS takes
ten attributes at most, and this way any number of headers. Who publishes with another program needs
no attribute at all; those that he gives become headers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final, cast

from blocks.errors import MessageNotAllowedError
from blocks.message import Message, utc_now
from blocks.sqs_broker.text import to_text

ATTRIBUTE: Final = "noa"
#: What tells a dead letter: these stand beside `noa`, so that a person sees them in AWS's console.
DEAD: Final = "noa-dead-"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STRING: Final = "String"
_MOST: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Reference:
    """Where in S3 a large body lies, and how to tell that it is the one that was put there."""

    bucket: str
    key: str
    size: int
    sha256: str
    #: Several messages may refer to it: it isn't removed with the first.
    shared: bool = False


@dataclass(frozen=True, kw_only=True)
class Record:
    """A message without its body's bytes: what is sent, and what is read back."""

    #: The body as it is sent.
    text: str
    encoding: str | None = None
    reference: Reference | None = None
    id: str
    headers: Mapping[str, str]
    key: str | None
    deliveries: int = 0
    generation: int = 0
    #: When it was first published, where that isn't when SQS got it.
    published: datetime | None = None
    #: Not to be delivered before, where SQS can't hold it for so long.
    due: datetime | None = None

    @cached_property
    def attribute(self) -> str:
        """Everything but the body, as `noa` holds it."""
        reference = self.reference
        own = {
            "id": self.id,
            "headers": dict(self.headers),
            "key": self.key,
            "deliveries": self.deliveries,
            "generation": self.generation,
            "published": _milliseconds(self.published),
            "due": _milliseconds(self.due),
            "encoding": self.encoding,
            "s3": reference and {name: getattr(reference, name) for name in Reference.__slots__},
        }
        # ASCII, so that no character is one that SQS refuses.
        return json.dumps({name: value for name, value in own.items() if value})

    def attributes(self, more: Mapping[str, str] | None = None) -> dict[str, dict[str, str]]:
        """As SQS and SNS take them, with others beside `noa`."""
        return {
            name: {"DataType": _STRING, "StringValue": value}
            for name, value in {ATTRIBUTE: self.attribute, **(more or {})}.items()
        }

    @property
    def size(self) -> int:
        """What SQS counts: the body, and the attribute's name, type and value."""
        return len(self.text.encode()) + len(ATTRIBUTE) + len(_STRING) + len(self.attribute)


def record_of(message: Message, message_id: str) -> Record:
    """Write a message.

    Raises:
        MessageNotAllowedError: A header or the key is not valid Unicode.
    """
    for place, text in _texts(message):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise MessageNotAllowedError(f"{place} is not valid Unicode: {text!r}") from error
    text, encoding = to_text(message.body)
    return Record(
        text=text,
        encoding=encoding,
        id=message_id,
        headers=message.headers,
        key=message.key,
        deliveries=message.deliveries,
        generation=message.generation,
    )


def read_record(raw: Mapping[str, Any]) -> Record:
    """Read what `ReceiveMessage` returned, whoever sent it and however strange it is."""
    attributes: Mapping[str, Mapping[str, Any]] = raw.get("MessageAttributes") or {}
    system: Mapping[str, str] = raw.get("Attributes") or {}
    own = _own(attributes)
    headers = _headers(attributes, own)
    record = Record(
        text=str(raw.get("Body", "")),
        encoding=_text(own.get("encoding")),
        reference=_reference(own.get("s3")),
        id=_text(own.get("id")) or str(raw["MessageId"]),
        headers=headers,
        key=_text(own.get("key")) if own else system.get("MessageGroupId"),
        deliveries=_count(own.get("deliveries")),
        generation=_count(own.get("generation")),
        published=_moment(own.get("published")) or _moment(system.get("SentTimestamp")),
        due=_moment(own.get("due")),
    )
    if f"{DEAD}reason" in attributes and f"{DEAD}at" in attributes:
        # A dead letter in a queue of the living was brought back by AWS's own redrive.
        return replace(record, generation=record.generation + 1)
    return record


def first_received(raw: Mapping[str, Any]) -> datetime:
    """When somebody received it for the first time."""
    system: Mapping[str, str] = raw.get("Attributes") or {}
    return _moment(system.get("ApproximateFirstReceiveTimestamp")) or utc_now()


def group_id(raw: Mapping[str, Any]) -> str | None:
    """The group of a message on a FIFO queue."""
    system: Mapping[str, str] = raw.get("Attributes") or {}
    return system.get("MessageGroupId")


def receive_count(raw: Mapping[str, Any]) -> int:
    """How often SQS has given it out."""
    system: Mapping[str, str] = raw.get("Attributes") or {}
    return max(1, _count(system.get("ApproximateReceiveCount")))


def dead_attributes(raw: Mapping[str, Any]) -> dict[str, str]:
    """What stands beside `noa` on a dead letter, without the prefix."""
    attributes: Mapping[str, Mapping[str, Any]] = raw.get("MessageAttributes") or {}
    return {
        name.removeprefix(DEAD): str(value.get("StringValue", ""))
        for name, value in attributes.items()
        if name.startswith(DEAD)
    }


def moment(milliseconds: str | None) -> datetime | None:
    """Read a stamp in milliseconds."""
    return _moment(milliseconds)


def milliseconds(stamp: datetime) -> int:
    """Write a stamp in milliseconds."""
    return int((stamp - _EPOCH) / timedelta(milliseconds=1))


def _texts(message: Message) -> list[tuple[str, str]]:
    texts = [("the key", message.key or ""), ("the id", message.id or "")]
    for name, value in message.headers.items():
        texts += [(f"the name of header {name!r}", name), (f"header {name!r}", value)]
    return texts


def _own(attributes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    try:
        own: object = json.loads(str(attributes.get(ATTRIBUTE, {}).get("StringValue", "")))
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", own) if isinstance(own, dict) else {}


def _headers(attributes: Mapping[str, Mapping[str, Any]], own: Mapping[str, Any]) -> dict[str, str]:
    headers: dict[str, str] = {}
    written = own.get("headers")
    if isinstance(written, dict):
        items = cast("dict[str, object]", written).items()
        headers |= {name: _unicode(str(value)) for name, value in items}
    for name, value in attributes.items():
        if name != ATTRIBUTE and not name.startswith(DEAD):
            headers.setdefault(_unicode(name.lower()), _value(value))
    return headers


def _value(attribute: Mapping[str, Any]) -> str:
    binary = attribute.get("BinaryValue")
    if isinstance(binary, bytes):
        return binary.decode(errors="replace")
    return _unicode(str(attribute.get("StringValue", "")))


def _reference(value: object) -> Reference | None:
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, object]", value)
    bucket, key, sha256 = (_text(fields.get(name)) for name in ("bucket", "key", "sha256"))
    if bucket is None or key is None or sha256 is None:
        return None
    size = _count(fields.get("size"))
    return Reference(bucket, key, size, sha256, shared=fields.get("shared") is True)


def _text(value: object) -> str | None:
    return _unicode(value) if isinstance(value, str) and value else None


def _unicode(text: str) -> str:
    """Replace lone surrogates, which JSON can hold and nothing else."""
    return text.encode(errors="replace").decode()


def _count(value: object) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:10])
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return min(max(value, 0), _MOST)


def _milliseconds(stamp: datetime | None) -> int | None:
    return None if stamp is None else milliseconds(stamp)


def _moment(value: object) -> datetime | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:20])
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=value)
    except OverflowError:
        return None
