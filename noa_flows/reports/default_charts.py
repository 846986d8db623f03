"""Which charts say something about a table, where nobody has said which to draw."""

from typing import Final

from noa_flows.reports.chart import Aggregate, Chart, ChartKind
from noa_flows.reports.column import Column, ColumnKind, Measure, is_number
from noa_flows.reports.table import Table

_MAX_CHARTS: Final = 3
#: Values between which a reader can compare; a column with more of them is a name, not a group.
_MAX_GROUPS: Final = 30
_MAX_SLICES: Final = 6


def default_charts(table: Table) -> tuple[Chart, ...]:
    """Choose up to three charts by the columns' kinds and names.

    A period against the first column of numbers is drawn as a line, the first group as bars, the
    second as a pie if its numbers have parts to show, else as bars of the next numbers. Without
    numbers to sum up, or without anything to group by, there is no chart.
    """
    measures = table.measured
    if not measures:
        return ()
    periods, groups = _periods(table), _groups(table)
    charts = [_chart(ChartKind.LINE, periods[0], measures[0])] if periods else []
    kinds = [ChartKind.BAR, ChartKind.PIE, ChartKind.BAR]
    for index, (group, kind) in enumerate(zip(groups, kinds, strict=False)):
        measure = measures[(index // 2) % len(measures)]
        fits = kind is not ChartKind.PIE or _has_parts(table, group, measure)
        charts.append(_chart(kind if fits else ChartKind.BAR, group, measure))
    return tuple(charts[:_MAX_CHARTS])


def _chart(kind: ChartKind, x: Column, y: Column) -> Chart:
    average = y.measure is Measure.AVERAGE
    return Chart(
        kind=kind, x=x.key, y=y.key, aggregate=Aggregate.AVERAGE if average else Aggregate.SUM
    )


def _periods(table: Table) -> list[Column]:
    """Columns of time with more than one moment, real dates first."""
    found = [
        column for column in table.columns if column.is_period and _groups_of(table, column) > 1
    ]
    return sorted(found, key=lambda column: not column.is_time)


def _groups(table: Table) -> list[Column]:
    """Columns of text to group by, and the first one with different values if there are none."""
    texts = [
        column
        for column in table.columns
        if column.kind is ColumnKind.TEXT and not column.is_period and _groups_of(table, column) > 1
    ]
    telling = [
        column
        for column in texts
        if _groups_of(table, column) <= min(_MAX_GROUPS, len(table.rows) // 2)
    ]
    return telling or texts[:1]


def _groups_of(table: Table, column: Column) -> int:
    return len(set(table.values(column)) - {None, ""})


def _has_parts(table: Table, group: Column, measure: Column) -> bool:
    """Whether the numbers are parts of a whole, and few enough for a pie."""
    positive = all(value >= 0 for value in table.values(measure) if is_number(value))
    few = _groups_of(table, group) <= _MAX_SLICES
    return measure.measure is Measure.SUM and positive and few
