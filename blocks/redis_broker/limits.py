"""What an operator allows a queue: how fast it is emptied, how many dead letters it keeps."""

import math
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds of a queue; None for none."""

    #: Dead letters that died longer ago are dropped.
    dead_letters_max_age: timedelta | None = None
    #: The oldest dead letters are dropped while all take more memory than so many bytes.
    dead_letters_max_bytes: int | None = None
    #: All consumers of a queue together take no more than so many a second.
    max_per_second: float | None = None

    @property
    def interval_us(self) -> int:
        """Microseconds between two deliveries, rounded up; 0 where there is no limit."""
        return math.ceil(1_000_000 / self.max_per_second) if self.max_per_second else 0

    @property
    def burst(self) -> int:
        """How many may come at once after a pause: those of one second, and never less than one."""
        return max(1, int(self.max_per_second or 0))
