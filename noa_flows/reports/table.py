"""The rows of a payload as a table: every row has every column, and every column has a kind."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from noa_flows.errors import PayloadError
from noa_flows.reports.column import Cell, Column, Measure, is_number, label_of
from noa_flows.reports.column_reader import read_column
from noa_flows.reports.printable import printable

#: Names that rows may use between them; more is a table turned on its side.
MAX_COLUMNS: Final = 256


@dataclass(frozen=True)
class Table:
    """Columns in the order in which the rows first name them, and rows of as many cells.

    Example:
        >>> table = Table.from_rows([{"day": "2024-03-01"}, {"day": "2024-03-02", "sold": 3}])
        >>> [column.kind.value for column in table.columns]
        ['date', 'number']
        >>> table.rows[0]
        (datetime.date(2024, 3, 1), None)
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, JsonValue]]) -> "Table":
        """Read rows as they came: with keys missing, values mixed, objects nested.

        Raises:
            PayloadError: The rows name more than 256 columns between them.
        """
        keys = _keys(rows)
        labels = _labels(keys)
        read = [read_column(key, labels[key], [row.get(key) for row in rows]) for key in keys]
        columns = tuple(column for column, _ in read)
        cells = tuple(zip(*(values for _, values in read), strict=True))
        return cls(columns, cells if keys else tuple(() for _ in rows))

    def column(self, key: str) -> Column | None:
        """Find a column by its key in the rows."""
        return next((column for column in self.columns if column.key == key), None)

    def values(self, column: Column) -> list[Cell]:
        """Take one column's cells, a row each."""
        index = self.columns.index(column)
        return [row[index] for row in self.rows]

    @property
    def measured(self) -> list[Column]:
        """The columns whose numbers mean something together: sums before averages, money first."""
        order = [Measure.SUM, Measure.AVERAGE]
        found = [column for column in self.columns if column.measure in order]
        return sorted(found, key=lambda column: (order.index(column.measure), not column.is_amount))

    def total(self, column: Column) -> int | float | None:
        """Sum up a column as its measure says; None where that makes no sense, or overflows."""
        numbers = [value for value in self.values(column) if is_number(value)]
        if not numbers or column.measure is Measure.NONE:
            return None
        total = add_up(numbers)
        if column.measure is Measure.AVERAGE and total is not None:
            return total / len(numbers)
        return total


def add_up(numbers: Sequence[int | float]) -> int | float | None:
    """Sum without rounding on the way; None where the sum is more than a float can hold."""
    if all(isinstance(number, int) for number in numbers):
        return sum(numbers)
    try:
        return math.fsum(numbers)
    except OverflowError:
        return None


def _keys(rows: Sequence[Mapping[str, JsonValue]]) -> list[str]:
    """Collect the names in the order in which they first appear."""
    keys: dict[str, None] = {}
    for number, row in enumerate(rows):
        keys.update(dict.fromkeys(row))
        if len(keys) > MAX_COLUMNS:
            raise PayloadError(
                f"up to this row the rows name {len(keys)} different columns, and a report holds "
                f"{MAX_COLUMNS}; use the same names in every row",
                path=f"data[{number}]",
            )
    return list(keys)


def _labels(keys: Sequence[str]) -> dict[str, str]:
    """Choose headings, and keep the raw keys where two headings would be the same."""
    labels = {key: printable(label_of(key)) for key in keys}
    used = Counter(labels.values())
    return {key: key if used[label] > 1 else label for key, label in labels.items()}
