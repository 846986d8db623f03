"""Values as cells of a workbook: with a format to read them by, and never as a formula."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

from noa_flows.reports.column import Cell, Column, Measure, is_number
from noa_flows.reports.spreadsheet_text import looks_like_formula

if TYPE_CHECKING:
    from openpyxl.cell import Cell as SheetCell

#: A write-only sheet of openpyxl's, whose published annotations lack most of its attributes.
Sheet = Any

#: Letters that Excel takes in one cell.
MAX_LETTERS: Final = 32_767
#: Letters from which on a text is wrapped.
WRAPPED_FROM: Final = 60
#: Excel keeps fifteen digits of a number; a longer integer is a name, and is kept whole as text.
_EXACT: Final = 10**15
#: Excel's calendar has no earlier years.
_FIRST_YEAR: Final = 1900


def data_cell(sheet: Sheet, value: Cell, column: Column) -> "SheetCell | None":
    """Make the cell of a row's value; None leaves the cell empty."""
    shown = _storable(value)
    if shown is None:
        return None
    if isinstance(shown, str):
        return text_cell(sheet, shown)
    from openpyxl.cell import WriteOnlyCell

    cell = WriteOnlyCell(sheet)
    cell.value = shown
    if is_number(shown):
        cell.number_format = number_format(column, shown)
    elif isinstance(shown, date):
        cell.number_format = date_format(shown)
    return cell


def text_cell(sheet: Sheet, text: str) -> "SheetCell":
    """Make a cell that shows a text as it is, whatever it begins with."""
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Alignment

    shown = text if len(text) <= MAX_LETTERS else f"{text[: MAX_LETTERS - 1]}…"
    cell = WriteOnlyCell(sheet, shown)
    # openpyxl reads a leading `=` as a formula, and `#N/A` as an error.
    cell.data_type = "s"
    if looks_like_formula(shown):
        # Keeps it a text when somebody edits the cell.
        cell.quotePrefix = True
    if len(shown) > WRAPPED_FROM or "\n" in shown:
        cell.alignment = Alignment(wrap_text=True, vertical="top")
    return cell


def number_format(column: Column, value: float = 0) -> str:
    """Choose Excel's format for a number: thousands separated, unless the number is a name."""
    if column.is_number and column.measure is Measure.NONE:
        return "General"
    decimals = column.decimals if column.is_number else 0 if value == int(value) else 2
    return f"#,##0.{'0' * decimals}" if decimals else "#,##0"


def date_format(value: date) -> str:
    """Choose Excel's format for a date, or for a moment."""
    return "yyyy-mm-dd hh:mm" if isinstance(value, datetime) else "yyyy-mm-dd"


def column_width(column: Column, texts: list[str]) -> float:
    """Choose a width in letters: what the heading and the longest of some texts need."""
    longest = max(map(len, texts), default=0)
    # A filter's button covers three letters of a heading.
    return float(min(max(longest + 2, len(column.label) + 4, 9), WRAPPED_FROM))


def _storable(value: Cell) -> Cell:
    """Turn what Excel would round, or can't date, into text."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int) and abs(value) >= _EXACT:
        return str(value)
    if isinstance(value, date) and value.year <= _FIRST_YEAR:
        return value.isoformat()
    return value
