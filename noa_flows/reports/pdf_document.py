"""PDF reports: a template of Typst's, fed with the report as JSON."""

import json
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from noa_flows.errors import ConfigurationError, PayloadError
from noa_flows.reports.cell_text import cell_text, column_text
from noa_flows.reports.chart_svg import FONTS, draw_chart
from noa_flows.reports.column import Column, Measure
from noa_flows.reports.page_layout import PageLayout, lay_out
from noa_flows.reports.rendered import Rendered
from noa_flows.reports.report import Report
from noa_flows.reports.series import Series
from noa_flows.reports.settings import ReportSettings
from noa_flows.reports.time_buckets import long_date

if TYPE_CHECKING:
    from typst import Fonts

#: Letters of one cell that are printed; the rest is cut off with an ellipsis.
MAX_CELL_LETTERS: Final = 1_000
#: Points between two charts side by side, and the inner margins of a chart's frame.
_GUTTER: Final = 14
_FRAME: Final = 20
_CHART_HEIGHT: Final = 155
_ZERO_WIDTH_SPACE: Final = "\u200b"


def write_pdf(report: Report, settings: ReportSettings) -> Rendered:
    """Set a report as PDF. The same report gives the same bytes.

    Everything in the rows reaches the page as text: Typst gets it as JSON, and no template
    evaluates it.

    Raises:
        PayloadError: There are too many rows or columns for pages.
        ConfigurationError: The template doesn't compile.
    """
    rows = len(report.table.rows)
    if rows > settings.max_pdf_rows:
        raise PayloadError(
            f"{rows:,} rows are more than a PDF report holds ({settings.max_pdf_rows:,}); "
            "ask for `excel` or `csv`, or send fewer rows",
            path="data",
        )
    content = _compile(report, tagged=rows <= settings.max_tagged_pdf_rows)
    return Rendered(
        content=content,
        media_type="application/pdf",
        pages=_count_pages(content),
        charts=len(report.charts),
    )


def _compile(report: Report, *, tagged: bool) -> bytes:
    import typst

    source = report.template.source
    try:
        return typst.compile(
            str(source),
            root=str(report.template.folder),
            format="pdf",
            font_paths=_fonts(),
            sys_inputs={"report": json.dumps(_document(report), ensure_ascii=False)},
            timestamp=report.generated,
            pdf_tags=tagged,
        )
    except typst.TypstError as error:
        raise ConfigurationError(f"{source} doesn't compile: {error}") from error


def _document(report: Report) -> dict[str, Any]:
    """Describe the report as templates find it in `sys.inputs.report`."""
    columns = report.table.columns
    rows = [
        [_printed(cell_text(cell, column)) for cell, column in zip(row, columns, strict=True)]
        for row in report.table.rows
    ]
    totals = _totals(report)
    layout = lay_out(columns, [*rows, totals] if totals else rows)
    return {
        "title": report.title,
        "organisation": report.organisation,
        "footer": report.template.options.footer,
        "palette": list(report.template.options.palette),
        "period": report.period,
        "generated": long_date(report.generated),
        "landscape": layout.landscape,
        "letter_size": layout.letter_size,
        "key_figures": [
            {"label": _printed(figure.label), "text": figure.text} for figure in report.key_figures
        ],
        "charts": _charts(report, layout),
        "charts_per_row": _charts_per_row(report, layout),
        "columns": [
            {
                "label": _printed(column.label),
                "width": width,
                "right": column.measure is not Measure.NONE,
            }
            for column, width in zip(columns, layout.widths, strict=True)
        ],
        "rows": [_breakable(row, layout) for row in rows],
        "totals": totals,
    }


def _printed(text: str) -> str:
    """Cut off what nobody would read in a table."""
    return text if len(text) <= MAX_CELL_LETTERS else f"{text[: MAX_CELL_LETTERS - 1]}…"


def _breakable(row: list[str], layout: PageLayout) -> list[str]:
    """Let words that are longer than their column break, instead of running into the next one."""
    return [_break_words(text, layout.letters(index)) for index, text in enumerate(row)]


def _break_words(text: str, letters: int) -> str:
    if len(text) <= letters:
        return text
    return " ".join(
        word if len(word) <= letters else _ZERO_WIDTH_SPACE.join(_pieces(word, letters))
        for word in text.split(" ")
    )


def _pieces(word: str, letters: int) -> list[str]:
    return [word[start : start + letters] for start in range(0, len(word), letters)]


def _totals(report: Report) -> list[str]:
    """Write the last row: sums, averages named as such, and a heading where there is room."""
    totals = [_total(report.table.total(column), column) for column in report.table.columns]
    if not any(totals):
        return []
    return [totals[0] or "Total", *totals[1:]]


def _total(total: float | None, column: Column) -> str:
    if total is None:
        return ""
    prefix = "avg " if column.measure is Measure.AVERAGE else ""
    return f"{prefix}{column_text(total, column)}"


def _charts(report: Report, layout: PageLayout) -> list[dict[str, Any]]:
    """Draw the charts in rows; one that would be alone in the last row opens across the page."""
    per_row = _charts_per_row(report, layout)
    alone = len(report.charts) % per_row == 1
    return [
        _chart(series, report, layout, span=per_row if alone and index == 0 else 1)
        for index, series in enumerate(report.charts)
    ]


def _charts_per_row(report: Report, layout: PageLayout) -> int:
    """Two charts on upright pages, three on landscape ones, where the height is dear."""
    return min(3 if layout.landscape else 2, len(report.charts)) or 1


def _chart(series: Series, report: Report, layout: PageLayout, *, span: int) -> dict[str, Any]:
    per_row = _charts_per_row(report, layout)
    width = (layout.width - _GUTTER * (per_row - 1)) / per_row if span == 1 else layout.width
    svg = draw_chart(
        series,
        width=int(width - _FRAME),
        height=_CHART_HEIGHT,
        palette=report.template.options.palette,
    )
    return {"title": series.title, "span": span, "svg": svg}


@cache
def _fonts() -> "Fonts":
    """Read the packaged fonts once a process; those of the machine are never looked at."""
    import typst

    return typst.Fonts(include_system_fonts=False, font_paths=[str(FONTS)])


def _count_pages(content: bytes) -> int:
    from pypdf import PdfReader

    return len(PdfReader(BytesIO(content)).pages)
