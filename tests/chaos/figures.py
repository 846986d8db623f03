"""What a chaos test has counted, beside what it has to be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Counts under their names, in the order in which they are shown.

    Args:
        title: Of the column.
        counted: What was counted.
        expected: What some of it has to be.
    """

    title: str
    counted: Mapping[str, float]
    expected: Mapping[str, float]

    @property
    def wrong(self) -> Sequence[str]:
        """What isn't as it has to be, as one line each."""
        return [
            f"{self.title}: {name} is {self.counted[name]}, not {value}"
            for name, value in self.expected.items()
            if self.counted[name] != value
        ]


def as_table(columns: Sequence[Figures]) -> str:
    """Lay figures out side by side; a dash stands for what a column doesn't count."""
    names = list(dict.fromkeys(name for column in columns for name in column.counted))
    rows = [["", *(column.title for column in columns)]]
    rows += [[name, *(_cell(column.counted.get(name)) for column in columns)] for name in names]
    first = max(len(row[0]) for row in rows)
    return "\n".join(
        f"{row[0]:<{first}}" + "".join(f"{cell:>14}" for cell in row[1:]) for row in rows
    )


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
