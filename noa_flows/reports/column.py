"""One column of a report's table: what it holds, how it is named, and how it adds up."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Final, TypeGuard

#: A value of a table, after lists and objects became text and ISO dates became dates.
Cell = str | int | float | bool | date | datetime | None


class ColumnKind(StrEnum):
    """What all values of a column are; anything mixed is text."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"


class Measure(StrEnum):
    """How the numbers of a column are summed up: adding up a discount or a year says nothing."""

    SUM = "sum"
    AVERAGE = "average"
    NONE = "none"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_IDENTIFIERS: Final = _words(
    "id ids key code sku zip postal postcode phone fax number no nr rank position index row "
    "version latitude longitude lat lon lng"
)
_PERIODS: Final = _words("year quarter month week weekday day hour period date time")
_RATES: Final = _words(
    "rate ratio percent percentage pct discount margin share price average avg mean median score "
    "rating age temperature unit per"
)
_AMOUNTS: Final = _words(
    "sales revenue turnover amount total value cost costs price spend income gross net"
)
_ACRONYMS: Final = _words("id ids sku url vat zip uuid isbn iban ip")
_PLAIN_KEY: Final = re.compile(r"[a-z][A-Za-z0-9_]*")
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column as its values and its name show it to be."""

    #: The key in the rows.
    key: str
    #: The heading, as a person would write it.
    label: str
    kind: ColumnKind
    measure: Measure = Measure.NONE
    #: Decimal places to show, for numbers.
    decimals: int = 0
    #: Whether the values came with zones, and were brought to UTC.
    in_utc: bool = False

    @property
    def is_number(self) -> bool:
        """Whether every value is a number (or missing)."""
        return self.kind is ColumnKind.NUMBER

    @property
    def is_amount(self) -> bool:
        """Whether the name says money, which readers look for first."""
        return not _AMOUNTS.isdisjoint(words_of(self.key))

    @property
    def is_time(self) -> bool:
        """Whether the values are dates or moments."""
        return self.kind in {ColumnKind.DATE, ColumnKind.DATETIME}

    @property
    def is_period(self) -> bool:
        """Whether the name says month, year or the like, so that the order of values matters."""
        return self.is_time or not _PERIODS.isdisjoint(words_of(self.key))


def words_of(key: str) -> list[str]:
    """Split `orderDate`, `order_date` or `Order Date` into lower-case words."""
    return [word.lower() for word in _WORD.findall(key)]


def label_of(key: str) -> str:
    """Turn a programmer's name into a heading: `orderId` into `Order ID`.

    A name that holds anything but letters, digits and underscores was written for people already,
    and stays as it is.
    """
    if not _PLAIN_KEY.fullmatch(key):
        return key
    words = [word.upper() if word in _ACRONYMS else word for word in words_of(key)]
    return words[0][0].upper() + " ".join(words)[1:] if words else key


def measure_of(key: str) -> Measure:
    """Judge by a numeric column's name whether to add up, to average, or to do neither."""
    words = set(words_of(key))
    if words & (_IDENTIFIERS | _PERIODS):
        return Measure.NONE
    return Measure.AVERAGE if words & _RATES or "%" in key else Measure.SUM


def is_number(value: object) -> TypeGuard[int | float]:
    """Tell numbers from truth values, which Python counts among the integers."""
    return isinstance(value, int | float) and not isinstance(value, bool)
