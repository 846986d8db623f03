"""A circuit breaker: after failures it waits longer and longer, then lets one probe through."""

import random
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from time import monotonic
from typing import Final

_FIRST_PAUSE: Final = timedelta(milliseconds=200)
_LONGEST_PAUSE: Final = timedelta(seconds=15)


class Circuit(StrEnum):
    """The state of a circuit breaker."""

    #: Calls pass.
    CLOSED = "closed"
    #: The last call failed; no call passes until a pause is over.
    OPEN = "open"
    #: The pause is over, and one call is tried.
    HALF_OPEN = "half-open"


def _tell_nobody(_circuit: Circuit, _why: str) -> None:
    pass


class CircuitBreaker:
    """Says how long to wait before the next call.

    Closed: no wait. Open: exponential back-off with full jitter above a floor, so that many
    consumers don't come back at once. When the wait is over one probe may pass (half open); its
    outcome closes the breaker, or opens it for longer.

    Args:
        on_change: Told of each new state, and why.
        clock: Seconds, as `time.monotonic`.
        jitter: Draws between two seconds.
    """

    def __init__(
        self,
        *,
        on_change: Callable[[Circuit, str], None] = _tell_nobody,
        clock: Callable[[], float] = monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._on_change = on_change
        self._clock = clock
        self._jitter = jitter
        self._failures = 0
        self._retry_at = 0.0
        self._circuit = Circuit.CLOSED

    @property
    def circuit(self) -> Circuit:
        """The state now."""
        return self._circuit

    def wait(self) -> timedelta:
        """How long to wait from now on before the next call."""
        return timedelta(seconds=max(0.0, self._retry_at - self._clock()))

    def probe(self) -> None:
        """Note that the wait is over, and a call is tried."""
        if self._circuit is Circuit.OPEN:
            self._change(Circuit.HALF_OPEN, f"tried again after {self._failures} failures")

    def succeeded(self) -> bool:
        """Close it, and return whether it was open."""
        was_open, failures = self._failures > 0, self._failures
        self._failures, self._retry_at = 0, 0.0
        if was_open:
            self._change(Circuit.CLOSED, f"answered after {failures} failures")
        return was_open

    def failed(self, why: str = "") -> bool:
        """Open it for longer than before, and return whether it was closed."""
        was_closed, self._failures = self._failures == 0, self._failures + 1
        longest = min(_FIRST_PAUSE * 2 ** min(self._failures - 1, 16), _LONGEST_PAUSE)
        pause = self._jitter(longest.total_seconds() / 2, longest.total_seconds())
        self._retry_at = self._clock() + pause
        if self._circuit is not Circuit.OPEN:
            self._change(Circuit.OPEN, why)
        return was_closed

    def _change(self, circuit: Circuit, why: str) -> None:
        self._circuit = circuit
        self._on_change(circuit, why)
