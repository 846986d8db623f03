"""CSV reports: RFC 4180, in UTF-8."""

import csv
from collections.abc import Iterator
from datetime import datetime
from io import StringIO

from noa_flows.reports.column import Cell
from noa_flows.reports.printable import printable
from noa_flows.reports.rendered import Rendered
from noa_flows.reports.row_limit import check_row_limit
from noa_flows.reports.settings import ReportSettings
from noa_flows.reports.spreadsheet_text import looks_like_formula
from noa_flows.reports.table import Table


def write_csv(table: Table, settings: ReportSettings) -> Rendered:
    """Write a table as CSV: a line of names as the rows have them, then a line a row.

    Numbers are written as they came, truth values as `true` and `false`, dates in ISO form
    (moments with a zone in UTC, as `2024-03-01T08:00:00Z`), and missing values as nothing.
    A text that a spreadsheet would take for a formula gets an apostrophe in front. There is no
    byte order mark unless the settings ask for one.

    Raises:
        PayloadError: There are more rows than the settings allow.
    """
    check_row_limit(table, settings)
    text = StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerows(_lines(table))
    encoding = "utf-8-sig" if settings.csv_byte_order_mark else "utf-8"
    return Rendered(content=text.getvalue().encode(encoding), media_type="text/csv; charset=utf-8")


def _lines(table: Table) -> Iterator[list[str]]:
    if table.columns:
        yield [_guarded(printable(column.key)) for column in table.columns]
    zoned = [column.in_utc for column in table.columns]
    for row in table.rows:
        yield [_field(cell, in_utc=utc) for cell, utc in zip(row, zoned, strict=True)]


def _field(cell: Cell, *, in_utc: bool) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, datetime):
        return f"{cell.isoformat()}Z" if in_utc else cell.isoformat()
    return _guarded(cell) if isinstance(cell, str) else str(cell)


def _guarded(text: str) -> str:
    return f"'{text}" if looks_like_formula(text) else text
