"""How a value reads on paper: thousands separators, a fixed number of decimals, ISO dates."""

from datetime import date, datetime
from decimal import Decimal
from typing import Final

from noa_flows.reports.column import Cell, Column, Measure

#: From here on digits in full say less than a power of ten.
_TOO_LONG: Final = 10**18


def cell_text(value: Cell, column: Column) -> str:
    """Write a cell for a reader; a missing value is an empty text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        is_name = column.is_number and column.measure is Measure.NONE
        return plain_number_text(value) if is_name else number_text(value, column.decimals)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return value.isoformat() if isinstance(value, date) else value


def number_text(value: float, decimals: int) -> str:
    """Group thousands with commas and round: `1234.5` with 2 decimals is `1,234.50`."""
    if abs(value) >= _TOO_LONG:
        return f"{Decimal(value):.6E}"
    return f"{value:,.{decimals}f}"


def plain_number_text(value: float) -> str:
    """Write a year or a number that is a name without separators."""
    if abs(value) >= _TOO_LONG and isinstance(value, float):
        return repr(value)
    return str(int(value)) if value == int(value) else repr(value)


def short_number_text(value: float, decimals: int) -> str:
    """Write a number that has to fit a small space: from a billion on as `1.23 bn`."""
    size = abs(value)
    if size >= 10**15:
        return f"{Decimal(value):.2E}"
    for unit, name in ((10**12, "tn"), (10**9, "bn")):
        if size >= unit:
            return f"{value / unit:,.2f} {name}"
    return number_text(value, 0 if size >= 10**6 else decimals)


def column_text(value: float, column: Column) -> str:
    """Write a sum or an average of a column; averages of whole numbers get decimals."""
    average = column.measure is Measure.AVERAGE
    return number_text(value, max(column.decimals, 2) if average else column.decimals)
