"""What an operator allows a queue: how many dead letters it keeps."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds of a queue; None for none."""

    #: Dead letters that died longer ago are dropped.
    dead_letters_max_age: timedelta | None = None
    #: The oldest dead letters are dropped while all take more memory than so many bytes.
    dead_letters_max_bytes: int | None = None
