"""How long to wait before the next attempt."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

#: Beyond this power any multiplier has reached any sensible maximum, and floats still hold.
_LAST_POWER = 64

_SECONDS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Exponential back-off with full jitter.

    Each pause is drawn evenly between nothing and a bound that grows by `multiplier`, so that
    deliveries which failed together don't come back together. Source:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    first: timedelta = timedelta(seconds=1)
    multiplier: float = 2.0
    maximum: timedelta = timedelta(minutes=1)
    #: The longest pause that a receiver's Retry-After can ask for.
    longest_asked: timedelta = timedelta(minutes=5)
    #: Draws from [0, 1).
    draw: Callable[[], float] = random.random

    def pause(self, attempt: int, asked: timedelta | None = None) -> timedelta:
        """Choose the pause after the given attempt (1 for the first).

        What the receiver asked for is a lower bound, up to `longest_asked`.
        """
        growth = self.multiplier ** min(attempt - 1, _LAST_POWER)
        bound = min(self.first.total_seconds() * growth, self.maximum.total_seconds())
        drawn = timedelta(seconds=bound * self.draw())
        return drawn if asked is None else max(drawn, min(asked, self.longest_asked))


def read_retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Read a Retry-After header in either of its forms: seconds, or an HTTP date.

    Returns None where there is none, or none that can be read; a date in the past asks for no
    pause.
    """
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return timedelta(seconds=int(text))
    try:
        date = parsedate_to_datetime(text)
        # A date without a zone is in UTC, as every HTTP date.
        return max(timedelta(0), date.replace(tzinfo=date.tzinfo or UTC) - now)
    except (ValueError, OverflowError):
        return None
