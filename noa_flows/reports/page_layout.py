"""Which paper, which letter size and which column widths a table needs to be read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from noa_flows.errors import PayloadError
from noa_flows.reports.column import Column

#: Points: A4 less margins of 42 on both sides.
_PORTRAIT: Final = 511.0
_LANDSCAPE: Final = 758.0
#: Layouts in the order in which they are tried: landscape, letter size, whether text may wrap.
_LAYOUTS: Final = (
    (False, 8.5, False),
    (False, 8.0, False),
    (True, 8.5, False),
    (True, 8.0, False),
    (True, 7.5, False),
    (True, 7.0, False),
    (True, 7.5, True),
    (True, 7.0, True),
    (True, 6.5, True),
    (True, 6.0, True),
)
#: An average letter and digit of Inter, and the padding of a cell, in letter sizes.
_LETTER: Final = 0.58
_PADDING: Final = 1.3
#: Letters of text that make a comfortable line, and the fewest that still read as a column.
_COMFORTABLE: Final = 30
_NARROWEST: Final = 9
#: Rows that the widths are judged by.
_SAMPLE: Final = 2_000


@dataclass(frozen=True)
class PageLayout:
    """A page, and how its width is shared between the columns."""

    landscape: bool
    #: Points.
    letter_size: float
    #: Points, a column each; together the width between the margins.
    widths: tuple[float, ...]

    @property
    def width(self) -> float:
        """Points between the margins."""
        return _LANDSCAPE if self.landscape else _PORTRAIT

    def letters(self, index: int) -> int:
        """How many letters fit a line of a column."""
        return max(1, int((self.widths[index] / self.letter_size - _PADDING) / _LETTER))


def lay_out(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> PageLayout:
    """Choose the largest letters with which every number stays on one line.

    Args:
        columns: The table's columns.
        rows: Its cells as they are printed, the totals among them.

    Raises:
        PayloadError: Even small letters on a landscape page can't hold all columns.
    """
    narrowest, wanted = _needs(columns, rows)
    for landscape, size, wraps in _LAYOUTS:
        width = _LANDSCAPE if landscape else _PORTRAIT
        if sum(narrowest if wraps else wanted) * size <= width:
            return PageLayout(landscape, size, _share(width / size, narrowest, wanted, size))
    raise PayloadError(
        f"the {len(columns)} columns don't fit a page, even in small letters; "
        "send fewer columns, or ask for `excel` or `csv`",
        path="data",
    )


def _needs(
    columns: Sequence[Column], rows: Sequence[Sequence[str]]
) -> tuple[list[float], list[float]]:
    """Work out each column's narrowest and its wanted width, in letter sizes."""
    narrowest: list[float] = []
    wanted: list[float] = []
    step = max(1, len(rows) // _SAMPLE)
    for index, column in enumerate(columns):
        longest = max((len(row[index]) for row in rows[::step]), default=0)
        word = max(map(len, column.label.split()), default=1)
        full = max(longest, min(len(column.label), 14), word)
        least = full if column.is_number or column.is_time else min(full, max(_NARROWEST, word))
        narrowest.append(min(least, _COMFORTABLE) * _LETTER + _PADDING)
        wanted.append(min(full, _COMFORTABLE) * _LETTER + _PADDING)
    return narrowest, wanted


def _share(
    width: float, narrowest: Sequence[float], wanted: Sequence[float], size: float
) -> tuple[float, ...]:
    """Share out the width: what is needed first, then what is wanted, then the rest evenly."""
    slack = width - sum(narrowest)
    wishes = [want - need for want, need in zip(wanted, narrowest, strict=True)]
    granted = min(1.0, slack / sum(wishes)) if sum(wishes) else 0.0
    shared = [need + wish * granted for need, wish in zip(narrowest, wishes, strict=True)]
    stretch = width / (sum(shared) or 1.0)
    return tuple(share * stretch * size for share in shared)
