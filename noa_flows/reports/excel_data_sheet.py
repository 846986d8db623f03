"""The sheet of a workbook that holds the rows: headings, filter, formats, totals."""

from typing import TYPE_CHECKING, Final

from noa_flows.reports.cell_text import cell_text
from noa_flows.reports.column import Column, Measure
from noa_flows.reports.excel_cells import (
    Sheet,
    column_width,
    data_cell,
    number_format,
    text_cell,
)
from noa_flows.reports.report import Report

if TYPE_CHECKING:
    from openpyxl.cell import Cell as SheetCell

#: Excel's SUBTOTAL leaves out rows that a filter hides.
_SUBTOTAL: Final = {Measure.SUM: 109, Measure.AVERAGE: 101}
#: Rows that the widths are judged by.
_SAMPLE: Final = 500


def fill_data_sheet(sheet: Sheet, report: Report) -> None:
    """Write the headings, a row for each of the report's, and the totals."""
    table = report.table
    if not table.columns:
        return
    _prepare(sheet, report)
    accent = report.template.options.palette[0].removeprefix("#")
    sheet.append([_heading(sheet, column, accent) for column in table.columns])
    for row in table.rows:
        cells = zip(row, table.columns, strict=True)
        sheet.append([data_cell(sheet, value, column) for value, column in cells])
    if table.measured:
        sheet.append(_totals(sheet, table.columns, last_row=len(table.rows) + 1))


def _prepare(sheet: Sheet, report: Report) -> None:
    """Set what has to stand before the rows: widths, the frozen heading, the filter, printing."""
    from openpyxl.utils import get_column_letter

    columns, rows = report.table.columns, report.table.rows
    for index, column in enumerate(columns):
        texts = [cell_text(row[index], column) for row in rows[:_SAMPLE]]
        width = column_width(column, texts)
        sheet.column_dimensions[get_column_letter(index + 1)].width = width
    sheet.freeze_panes = "A2"
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(columns))}{len(rows) + 1}"
    sheet.print_title_rows = "1:1"
    sheet.page_setup.orientation = "landscape"
    sheet.page_setup.fitToHeight = 0
    sheet.sheet_properties.pageSetUpPr.fitToPage = True


def _heading(sheet: Sheet, column: Column, accent: str) -> "SheetCell":
    from openpyxl.styles import Alignment, Font, PatternFill

    cell = text_cell(sheet, column.label)
    cell.font = Font(bold=True, color="FFFFFF")
    cell.fill = PatternFill("solid", start_color=accent)
    side = "right" if column.measure is not Measure.NONE else "left"
    cell.alignment = Alignment(horizontal=side, vertical="center", wrap_text=True)
    return cell


def _totals(sheet: Sheet, columns: tuple[Column, ...], *, last_row: int) -> "list[SheetCell]":
    """Write the totals as formulas, so that they follow a filter and a changed number."""
    return [_total(sheet, column, index, last_row) for index, column in enumerate(columns)]


def _total(sheet: Sheet, column: Column, index: int, last_row: int) -> "SheetCell":
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Border, Font, Side
    from openpyxl.utils import get_column_letter

    if column.measure in _SUBTOTAL:
        letter = get_column_letter(index + 1)
        formula = f"=SUBTOTAL({_SUBTOTAL[column.measure]},{letter}2:{letter}{last_row})"
        cell = WriteOnlyCell(sheet, formula)
        cell.number_format = number_format(column)
    else:
        cell = text_cell(sheet, "Total" if index == 0 else "")
    cell.font = Font(bold=True)
    cell.border = Border(top=Side(style="medium"))
    return cell
