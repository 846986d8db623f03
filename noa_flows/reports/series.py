"""The points of a chart: rows grouped by one column, and another summed up for each group."""

from dataclasses import dataclass
from functools import partial
from typing import Final

from noa_flows.errors import PayloadError
from noa_flows.reports.chart import Aggregate, Chart, ChartKind
from noa_flows.reports.column import Cell, Column
from noa_flows.reports.grouping import (
    Groups,
    fold_smallest,
    group_by_time,
    group_by_value,
    largest_first,
)
from noa_flows.reports.printable import printable
from noa_flows.reports.table import Table, add_up
from noa_flows.reports.time_buckets import TimeBuckets, TimeUnit
from noa_flows.validation import closest

#: Groups that a reader can tell apart.
_MAX_BARS: Final = 12
_MAX_SLICES: Final = 6
_MAX_STEPS: Final = 60


@dataclass(frozen=True, kw_only=True)
class Series:
    """What a chart draws: one number a label."""

    kind: ChartKind
    title: str
    x_label: str
    y_label: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    #: Decimals that the numbers are shown with.
    decimals: int
    #: Whether the labels follow each other, as months do.
    ordered: bool


def series_of(chart: Chart, table: Table, *, path: str) -> Series:
    """Work out the points of a chart.

    Args:
        chart: What is asked for.
        table: The rows.
        path: Where it is asked for, such as `charts[0]`; errors name it.

    Raises:
        PayloadError: A column is missing or holds no numbers, or a pie would show negative ones.
    """
    x = _column(chart.x, table, f"{path}.x")
    y = None if chart.y is None else _column(chart.y, table, f"{path}.y")
    _check_numbers(chart, y, f"{path}.y")
    groups, unit = _groups(chart, table, x, y)
    points = {label: _aggregate(numbers, chart.aggregate) for label, numbers in groups.items()}
    drawn = {label: value for label, value in points.items() if value is not None}
    _check_pie(chart, drawn, f"{path}.kind")
    return Series(
        kind=chart.kind,
        title=printable(chart.title or _title(chart, x, y, unit)),
        x_label=x.label,
        y_label="Rows" if y is None else y.label,
        labels=tuple(drawn),
        values=tuple(drawn.values()),
        decimals=_decimals(chart, y),
        ordered=x.is_period or x.is_number,
    )


def _column(key: str, table: Table, path: str) -> Column:
    column = table.column(key)
    if column is None:
        known = [column.key for column in table.columns]
        raise PayloadError(
            f"the rows have no column {key!r}{closest(key, known)} "
            f"(they have: {', '.join(known[:20])})",
            path=path,
        )
    return column


def _check_numbers(chart: Chart, y: Column | None, path: str) -> None:
    if y is not None and chart.aggregate is not Aggregate.COUNT and not y.is_number:
        raise PayloadError(
            f"column {y.key!r} isn't all numbers, so it has no {chart.aggregate}; "
            "name a column of numbers, or aggregate by count",
            path=path,
        )


def _check_pie(chart: Chart, points: dict[str, float], path: str) -> None:
    if chart.kind is ChartKind.PIE and any(value < 0 for value in points.values()):
        label = next(label for label, value in points.items() if value < 0)
        raise PayloadError(
            f"a pie can't show that {label!r} is below zero; draw a bar chart", path=path
        )


def _groups(
    chart: Chart, table: Table, x: Column, y: Column | None
) -> tuple[Groups, TimeUnit | None]:
    """Group the rows, in the order in which the groups are drawn."""
    numbers = _numbers(chart, table, y)
    size = partial(_size, how=chart.aggregate)
    if x.is_time:
        buckets = TimeBuckets.over(table.values(x))
        groups = group_by_time(buckets, table.values(x), numbers)
        return fold_smallest(groups, _MAX_STEPS, size), buckets.unit
    groups = group_by_value(x, table.values(x), numbers)
    stepped = x.is_period or x.is_number or chart.kind in {ChartKind.LINE, ChartKind.AREA}
    if chart.kind is ChartKind.PIE:
        return fold_smallest(largest_first(groups, size), _MAX_SLICES, size), None
    if stepped:
        return fold_smallest(groups, _MAX_STEPS, size), None
    return fold_smallest(largest_first(groups, size), _MAX_BARS, size), None


def _numbers(chart: Chart, table: Table, y: Column | None) -> list[Cell]:
    """Take the numbers to sum up; to count, each value that isn't missing is a one."""
    if y is None:
        return [1] * len(table.rows)
    values = table.values(y)
    if chart.aggregate is Aggregate.COUNT:
        return [None if value in {None, ""} else 1 for value in values]
    return values


def _aggregate(numbers: list[int | float], how: Aggregate) -> float | None:
    """Sum up one group; None where there is nothing to draw, or more than a float holds."""
    total = add_up(numbers)
    if total is None or (how is Aggregate.AVERAGE and not numbers):
        return None
    try:
        return total / len(numbers) if how is Aggregate.AVERAGE else float(total)
    except OverflowError:
        return None


def _size(numbers: list[int | float], how: Aggregate) -> float:
    return _aggregate(numbers, how) or 0.0


def _decimals(chart: Chart, y: Column | None) -> int:
    if chart.aggregate is Aggregate.COUNT or y is None:
        return 0
    return max(y.decimals, 2) if chart.aggregate is Aggregate.AVERAGE else y.decimals


def _title(chart: Chart, x: Column, y: Column | None, unit: TimeUnit | None) -> str:
    """Say what is shown by what, as in `Sales per month` or `Average of Discount by Region`."""
    shown = "Rows" if y is None else y.label
    if chart.aggregate is Aggregate.AVERAGE:
        shown = f"Average of {shown}"
    elif chart.aggregate is Aggregate.COUNT and y is not None:
        shown = f"Number of {shown}"
    return f"{shown} per {unit}" if unit else f"{shown} by {x.label}"
