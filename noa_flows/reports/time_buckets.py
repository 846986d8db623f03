"""Days, months or years: the steps of a chart's time axis."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from math import inf
from typing import Final

from noa_flows.reports.column import Cell

# Python's own names follow the locale of whoever runs the worker.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class TimeUnit(StrEnum):
    """How wide a step is."""

    DAY = "day"
    MONTH = "month"
    YEAR = "year"


#: Days that a chart spans at most, and the steps it then has.
_UNITS: Final = ((42, TimeUnit.DAY), (3 * 366, TimeUnit.MONTH), (inf, TimeUnit.YEAR))
#: Days up to which steps without rows are shown too; beyond, an odd date has crept in.
_LONGEST_FILLED: Final = 60 * 366


@dataclass(frozen=True)
class TimeBuckets:
    """Steps from the first date to the last.

    Example:
        >>> buckets = TimeBuckets.over([date(2024, 1, 31), date(2024, 4, 1)])
        >>> buckets.labels
        ('Jan 2024', 'Feb 2024', 'Mar 2024', 'Apr 2024')
    """

    unit: TimeUnit
    labels: tuple[str, ...]

    @classmethod
    def over(cls, values: Sequence[Cell]) -> "TimeBuckets":
        """Choose the unit by the time spanned: days up to six weeks, months up to three years."""
        days = sorted({_day(value) for value in values if isinstance(value, date)})
        if not days:
            return cls(TimeUnit.DAY, ())
        span = (days[-1] - days[0]).days
        unit = next(unit for limit, unit in _UNITS if span <= limit)
        filled = _steps(days[0], days[-1], unit) if span <= _LONGEST_FILLED else days
        return cls(unit, tuple(dict.fromkeys(_label(day, unit) for day in filled)))

    def label(self, value: Cell) -> str | None:
        """Name the step that a date falls in; None for anything that isn't a date."""
        return _label(_day(value), self.unit) if isinstance(value, date) else None


def period_text(values: Iterable[Cell]) -> str:
    """Name the time that dates span, such as `1 Mar 2024 to 30 Apr 2024`; empty without dates."""
    days = [_day(value) for value in values if isinstance(value, date)]
    if not days:
        return ""
    first, last = long_date(min(days)), long_date(max(days))
    return first if first == last else f"{first} to {last}"


def long_date(day: date) -> str:
    """Write a date that nobody on either side of the Atlantic misreads: `1 Mar 2024`."""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def _day(value: date) -> date:
    """Drop the time of day, so that dates and moments compare."""
    return date(value.year, value.month, value.day)


def _label(day: date, unit: TimeUnit) -> str:
    if unit is TimeUnit.YEAR:
        return str(day.year)
    month = _MONTHS[day.month - 1]
    return f"{day.day} {month}" if unit is TimeUnit.DAY else f"{month} {day.year}"


def _steps(first: date, last: date, unit: TimeUnit) -> Iterator[date]:
    """Go from the first date to the last one, a date for each step."""
    if unit is TimeUnit.DAY:
        for offset in range((last - first).days + 1):
            yield first + timedelta(days=offset)
    elif unit is TimeUnit.MONTH:
        for month in range(first.year * 12 + first.month - 1, last.year * 12 + last.month):
            yield date(month // 12, month % 12 + 1, 1)
    else:
        for year in range(first.year, last.year + 1):
            yield date(year, 1, 1)
