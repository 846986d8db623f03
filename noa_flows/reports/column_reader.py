"""Finding out what the values of a column are, and reading them as that."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from pydantic import JsonValue

from noa_flows.reports.column import Cell, Column, ColumnKind, is_number, measure_of
from noa_flows.reports.printable import printable

_ISO_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_ISO_MOMENT: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?)?"
)


def read_column(key: str, label: str, raw: Sequence[JsonValue]) -> tuple[Column, list[Cell]]:
    """Judge a column by all its values, and read each of them accordingly.

    Missing and empty values say nothing about the kind. One value that doesn't fit makes the
    whole column text, in which numbers stay numbers.
    """
    values = [_flat(value) for value in raw]
    present = [value for value in values if value is not None and value != ""]
    if present and all(isinstance(value, bool) for value in present):
        return Column(key=key, label=label, kind=ColumnKind.BOOLEAN), _without_blanks(values)
    numbers = [value for value in present if is_number(value)]
    if numbers and len(numbers) == len(present):
        return _number_column(key, label, numbers), _without_blanks(values)
    texts = [value for value in present if isinstance(value, str)]
    if texts and len(texts) == len(present):
        return _text_or_time_column(key, label, texts, values)
    return Column(key=key, label=label, kind=ColumnKind.TEXT), values


def _flat(value: JsonValue) -> Cell:
    """Show lists and objects as JSON, and leave out of texts what no format can hold."""
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False)
    return printable(value) if isinstance(value, str) else value


def _without_blanks(values: Sequence[Cell]) -> list[Cell]:
    return [None if value == "" else value for value in values]


def _number_column(key: str, label: str, numbers: Sequence[int | float]) -> Column:
    return Column(
        key=key,
        label=label,
        kind=ColumnKind.NUMBER,
        measure=measure_of(key),
        decimals=_decimals(numbers),
    )


def _decimals(numbers: Sequence[int | float]) -> int:
    """Choose how many decimals to show: none for whole numbers, two, or four below one."""
    fractions = [number for number in numbers if number != int(number)]
    if not fractions:
        return 0
    needed = max(-int(Decimal(repr(number)).as_tuple().exponent) for number in fractions)
    return min(needed, 4) if max(map(abs, numbers)) < 1 else 2


def _text_or_time_column(
    key: str, label: str, texts: Sequence[str], values: list[Cell]
) -> tuple[Column, list[Cell]]:
    """Read ISO dates or moments, if every text is one; moments with a zone become UTC."""
    moments = _read_all(texts)
    if moments is None:
        return Column(key=key, label=label, kind=ColumnKind.TEXT), values
    if all(_ISO_DATE.fullmatch(text) for text in texts):
        days = {text: moment.date() for text, moment in moments.items()}
        column = Column(key=key, label=label, kind=ColumnKind.DATE)
        return column, [days.get(str(value)) for value in values]
    zoned = any(moment.tzinfo for moment in moments.values())
    label = f"{label} (UTC)" if zoned else label
    column = Column(key=key, label=label, kind=ColumnKind.DATETIME, in_utc=zoned)
    naive = {text: moment.replace(tzinfo=None) for text, moment in moments.items()}
    return column, [naive.get(str(value)) for value in values]


def _read_all(texts: Sequence[str]) -> dict[str, datetime] | None:
    """Read every text as a moment; None as soon as one isn't."""
    moments: dict[str, datetime] = {}
    for text in texts:
        if text not in moments:
            moment = _read(text)
            if moment is None:
                return None
            moments[text] = moment
    return moments


def _read(text: str) -> datetime | None:
    """Read `2024-03-01` or `2024-03-01T10:00:00Z`, and not the other forms that Python takes."""
    if not _ISO_MOMENT.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return None
