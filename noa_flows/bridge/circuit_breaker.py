"""A circuit breaker: after failures it waits longer and longer, then lets one probe through."""

import random
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Final

_FIRST_PAUSE: Final = timedelta(milliseconds=200)
_LONGEST_PAUSE: Final = timedelta(seconds=15)


class CircuitBreaker:
    """Says how long to wait before the next call.

    Closed: no wait. Open: exponential back-off with full jitter above a floor, so that many
    consumers don't come back at once. When the wait is over one probe may pass (half open); its
    outcome closes the breaker, or opens it for longer.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._retry_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the last call failed."""
        return self._failures > 0

    def wait(self) -> timedelta:
        """How long to wait from now on before the next call."""
        return timedelta(seconds=max(0.0, self._retry_at - self._clock()))

    def succeeded(self) -> bool:
        """Close it, and return whether it was open."""
        was_open, self._failures, self._retry_at = self.is_open, 0, 0.0
        return was_open

    def failed(self) -> bool:
        """Open it for longer than before, and return whether it was closed."""
        was_closed, self._failures = not self.is_open, self._failures + 1
        longest = min(_FIRST_PAUSE * 2 ** min(self._failures - 1, 16), _LONGEST_PAUSE)
        pause = self._jitter(longest.total_seconds() / 2, longest.total_seconds())
        self._retry_at = self._clock() + pause
        return was_closed
