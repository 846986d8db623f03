"""Groups of numbers under labels: what a chart sums up."""

from collections.abc import Callable, Sequence
from typing import Final

from noa_flows.reports.cell_text import cell_text
from noa_flows.reports.column import Cell, Column, is_number
from noa_flows.reports.time_buckets import TimeBuckets

#: The numbers of each group, by its label, in the order in which the groups are shown.
Groups = dict[str, list[int | float]]

OTHER: Final = "Other"
_NO_LABEL: Final = "(none)"


def group_by_time(buckets: TimeBuckets, dates: Sequence[Cell], numbers: Sequence[Cell]) -> Groups:
    """Group by steps of time, in their order; rows without a date are left out."""
    groups: Groups = {label: [] for label in buckets.labels}
    for value, number in zip(dates, numbers, strict=True):
        label = buckets.label(value)
        if label is not None and is_number(number):
            groups[label].append(number)
    return groups


def group_by_value(x: Column, values: Sequence[Cell], numbers: Sequence[Cell]) -> Groups:
    """Group by what a cell says: numbers in their order, all else as it first appears."""
    groups: Groups = {}
    pairs = list(zip(values, numbers, strict=True))
    if x.is_number:
        pairs.sort(key=lambda pair: pair[0] if is_number(pair[0]) else float("inf"))
    for value, number in pairs:
        found = groups.setdefault(cell_text(value, x) or _NO_LABEL, [])
        if is_number(number):
            found.append(number)
    return groups


def largest_first(groups: Groups, size: Callable[[list[int | float]], float]) -> Groups:
    """Order groups by what they come to."""
    return dict(sorted(groups.items(), key=lambda item: size(item[1]), reverse=True))


def fold_smallest(groups: Groups, limit: int, size: Callable[[list[int | float]], float]) -> Groups:
    """Keep the groups that matter most, in their order, and put the rest together as `Other`."""
    if len(groups) <= limit:
        return groups
    ranked = sorted(groups, key=lambda label: abs(size(groups[label])), reverse=True)
    kept = set(ranked[: limit - 1])
    rest = [number for label in groups if label not in kept for number in groups[label]]
    folded = {label: numbers for label, numbers in groups.items() if label in kept}
    return {**folded, OTHER: [*folded.pop(OTHER, []), *rest]}
