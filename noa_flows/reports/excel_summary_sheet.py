"""The sheet of a workbook that is looked at first: title, key figures, charts."""

from typing import TYPE_CHECKING, Final

from noa_flows.reports.column import Measure
from noa_flows.reports.excel_cells import Sheet, number_format, text_cell
from noa_flows.reports.excel_charts import native_chart
from noa_flows.reports.report import KeyFigure, Report
from noa_flows.reports.series import Series
from noa_flows.reports.time_buckets import long_date

if TYPE_CHECKING:
    from openpyxl.cell import Cell as SheetCell

#: Rows that a chart covers, with a gap below.
_ROWS_A_CHART: Final = 16
_FIRST_CHART_ROW: Final = 2


def fill_summary_sheet(sheet: Sheet, report: Report) -> None:
    """Write what a reader wants to know first, and the points of the charts as cells."""
    sheet.column_dimensions["A"].width = 30
    sheet.column_dimensions["B"].width = 18
    sheet.sheet_view.showGridLines = False
    rows = _head(sheet, report)
    for index, series in enumerate(report.charts):
        rows.append([])
        anchor = f"D{_FIRST_CHART_ROW + index * _ROWS_A_CHART}"
        palette = report.template.options.palette
        chart = native_chart(sheet, series, first_row=len(rows) + 1, palette=palette)
        sheet.add_chart(chart, anchor)
        rows.extend(_points(sheet, series))
    for row in rows:
        sheet.append(row)


def _head(sheet: Sheet, report: Report) -> "list[list[SheetCell]]":
    """Write the title, the dates and the key figures."""
    generated = f"Generated {long_date(report.generated)}"
    facts = [report.organisation, report.period, generated]
    rows = [[_bold_text(sheet, report.title, size=18)]]
    rows += [[text_cell(sheet, fact)] for fact in facts if fact]
    rows.append([])
    if not (report.table.rows and report.table.columns):
        rows.append([text_cell(sheet, "There is no data in this report.")])
    rows += [_key_figure(sheet, figure, report) for figure in report.key_figures]
    return rows


def _key_figure(sheet: Sheet, figure: KeyFigure, report: Report) -> "list[SheetCell]":
    """Write a key figure as a formula over the data, and the number of rows as a number."""
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    column, table = figure.column, report.table
    if column is None:
        cell = WriteOnlyCell(sheet, len(table.rows))
        cell.number_format = "#,##0"
    else:
        letter = get_column_letter(table.columns.index(column) + 1)
        function = "AVERAGE" if column.measure is Measure.AVERAGE else "SUM"
        cell = WriteOnlyCell(sheet, f"={function}(Data!{letter}2:{letter}{len(table.rows) + 1})")
        cell.number_format = number_format(column)
    cell.font = Font(bold=True)
    return [text_cell(sheet, figure.label), cell]


def _points(sheet: Sheet, series: Series) -> "list[list[SheetCell]]":
    """Write the cells of a chart: two headings, then a label and a number for each point."""
    from openpyxl.cell import WriteOnlyCell

    headings = [_bold_text(sheet, series.x_label), _bold_text(sheet, series.y_label)]
    rows = [headings]
    for label, value in zip(series.labels, series.values, strict=True):
        number = WriteOnlyCell(sheet, value)
        number.number_format = "#,##0.00" if series.decimals else "#,##0"
        rows.append([text_cell(sheet, label), number])
    return rows


def _bold_text(sheet: Sheet, text: str, size: int = 11) -> "SheetCell":
    from openpyxl.styles import Font

    cell = text_cell(sheet, text)
    cell.font = Font(bold=True, size=size)
    return cell
