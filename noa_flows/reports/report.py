"""A report before it has a format: what is shown, in the order in which it is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from noa_flows.reports.cell_text import short_number_text
from noa_flows.reports.chart import Chart
from noa_flows.reports.column import Column, Measure
from noa_flows.reports.default_charts import default_charts
from noa_flows.reports.printable import printable
from noa_flows.reports.series import Series, series_of
from noa_flows.reports.table import Table
from noa_flows.reports.template import Template
from noa_flows.reports.time_buckets import period_text


@dataclass(frozen=True)
class KeyFigure:
    """One number at the head of a report."""

    label: str
    text: str
    #: The column that is summed up; None for the number of rows.
    column: Column | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that a writer needs to know, whatever its format."""

    template: Template
    title: str
    organisation: str
    table: Table
    charts: tuple[Series, ...]
    #: In UTC and without fractions of a second.
    generated: datetime

    @property
    def period(self) -> str:
        """The time that the first column of dates spans; empty if there is none."""
        dates = next((column for column in self.table.columns if column.is_time), None)
        return period_text(self.table.values(dates)) if dates else ""

    @property
    def key_figures(self) -> tuple[KeyFigure, ...]:
        """The number of rows, and what the most telling columns come to."""
        count = KeyFigure("Rows", f"{len(self.table.rows):,}")
        figures = [_key_figure(self.table, column) for column in self.table.measured]
        return count, *[figure for figure in figures if figure][: self.template.options.key_figures]


def compose_report(
    table: Table,
    template: Template,
    *,
    title: str | None,
    charts: Sequence[Chart] | None,
    organisation: str,
    generated: datetime,
) -> Report:
    """Put a report together; what the payload leaves open, the template decides.

    Raises:
        PayloadError: A chart doesn't fit the rows.
    """
    return Report(
        template=template,
        title=printable(title or template.options.title),
        organisation=printable(organisation),
        table=table,
        charts=_series(table, template, charts),
        generated=generated,
    )


def _series(table: Table, template: Template, asked: Sequence[Chart] | None) -> tuple[Series, ...]:
    """Work out the charts of the payload, else of the template; none where there are no rows."""
    path = "charts"
    if asked is None:
        path = "template.charts"
        asked = _template_charts(table, template)
    if not table.columns:
        return ()
    found = [series_of(chart, table, path=f"{path}[{n}]") for n, chart in enumerate(asked)]
    return tuple(series for series in found if series.labels)


def _template_charts(table: Table, template: Template) -> Sequence[Chart]:
    charts = template.options.charts
    if charts == "auto":
        return default_charts(table)
    return () if charts == "none" else charts


def _key_figure(table: Table, column: Column) -> KeyFigure | None:
    total = table.total(column)
    if total is None:
        return None
    average = column.measure is Measure.AVERAGE
    label = f"Average {column.label}" if average else f"Total {column.label}"
    decimals = max(column.decimals, 2) if average else column.decimals
    return KeyFigure(label, short_number_text(total, decimals), column)
