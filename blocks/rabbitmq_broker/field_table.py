"""Field tables as anybody may send them, read without ever failing.

pika's own reader ends its connection on a float that is NaN, on a timestamp beyond the year 9999,
and on a type it doesn't know; and it cuts the decimals off floats. One message with such a header
would end each consumer that it is delivered to. The types are those of RabbitMQ's list:
https://www.rabbitmq.com/amqp-0-9-1-errata#section_3
"""

import json
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIXED: Final[Mapping[int, str]] = {
    ord("b"): ">b",
    ord("B"): ">B",
    ord("s"): ">h",
    ord("U"): ">h",
    ord("u"): ">H",
    ord("I"): ">i",
    ord("i"): ">I",
    ord("l"): ">q",
    ord("L"): ">q",
    ord("f"): ">f",
    ord("d"): ">d",
    ord("t"): ">?",
}
_LONGEST_TEXT: Final = 1_000


def read_table(encoded: bytes) -> dict[str, Any]:
    """Read the fields of a table (without its length) up to the first that makes no sense."""
    table: dict[str, Any] = {}
    offset = 0
    while offset < len(encoded):
        end = offset + 1 + encoded[offset]
        name = encoded[offset + 1 : end].decode(errors="replace")
        try:
            table[name], offset = _read_value(encoded, end)
        except (struct.error, IndexError, ValueError, RecursionError):
            break
    return table


def as_text(value: Any) -> str:
    """Write a value as the text of a header: JSON for what has parts, RFC 3339 for a time."""
    match value:
        case None:
            text = ""
        case bool():
            text = str(value).lower()
        case bytes():
            text = value.decode(errors="replace")
        case datetime():
            text = value.isoformat().replace("+00:00", "Z")
        case dict() | list():
            text = json.dumps(value, default=as_text, ensure_ascii=False)[:_LONGEST_TEXT]
        case _:
            text = str(value)
    return text


def _read_value(encoded: bytes, offset: int) -> tuple[Any, int]:
    kind = encoded[offset]
    offset += 1
    if kind in _FIXED:
        return _unpack(_FIXED[kind], encoded, offset)
    reader = _READERS.get(kind)
    if reader is None:
        raise ValueError(f"no field type {kind:#x}")
    return reader(encoded, offset)


def _unpack(layout: str, encoded: bytes, offset: int) -> tuple[Any, int]:
    return struct.unpack_from(layout, encoded, offset)[0], offset + struct.calcsize(layout)


def _read_bytes(encoded: bytes, offset: int) -> tuple[bytes, int]:
    length, offset = _unpack(">I", encoded, offset)
    if offset + length > len(encoded):
        raise ValueError("the value ends after the table")
    return encoded[offset : offset + length], offset + length


def _read_text(encoded: bytes, offset: int) -> tuple[str, int]:
    content, offset = _read_bytes(encoded, offset)
    return content.decode(errors="replace"), offset


def _read_decimal(encoded: bytes, offset: int) -> tuple[Decimal, int]:
    scale, offset = _unpack(">B", encoded, offset)
    digits, offset = _unpack(">i", encoded, offset)
    return Decimal(digits).scaleb(-scale), offset


def _read_time(encoded: bytes, offset: int) -> tuple[datetime | int, int]:
    seconds, offset = _unpack(">Q", encoded, offset)
    try:
        return _EPOCH + timedelta(seconds=seconds), offset
    except OverflowError:
        return seconds, offset


def _read_list(encoded: bytes, offset: int) -> tuple[list[Any], int]:
    content, end = _read_bytes(encoded, offset)
    values: list[Any] = []
    offset = 0
    while offset < len(content):
        value, offset = _read_value(content, offset)
        values.append(value)
    return values, end


def _read_inner_table(encoded: bytes, offset: int) -> tuple[dict[str, Any], int]:
    content, offset = _read_bytes(encoded, offset)
    return read_table(content), offset


def _read_nothing(encoded: bytes, offset: int) -> tuple[None, int]:
    del encoded
    return None, offset


_READERS: Final[Mapping[int, Callable[[bytes, int], tuple[Any, int]]]] = {
    ord("S"): _read_text,
    ord("x"): _read_bytes,
    ord("D"): _read_decimal,
    ord("T"): _read_time,
    ord("A"): _read_list,
    ord("F"): _read_inner_table,
    ord("V"): _read_nothing,
}
