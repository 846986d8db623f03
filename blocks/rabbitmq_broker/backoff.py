"""How long nobody tries to connect again after an attempt that failed."""

import random
import time
from typing import Final

from blocks.errors import BrokerError, BrokerRefusedError

_FIRST: Final = 0.05
_LONGEST: Final = 2.0
#: Who was refused will be so again until a person changes something.
_REFUSED: Final = 1.0


class Backoff:
    """Exponential, with jitter; meanwhile every call fails at once with the last error."""

    def __init__(self) -> None:
        self._failures = 0
        self._until = 0.0
        self._error: BrokerError | None = None

    def check(self) -> None:
        """Raise the last attempt's error while it is too early for the next one."""
        if self._error is not None and time.monotonic() < self._until:
            raise type(self._error)(str(self._error)) from self._error

    def failed(self, error: BrokerError) -> None:
        """Note an attempt that failed."""
        pause = min(_FIRST * 2 ** min(self._failures, 10), _LONGEST)
        if isinstance(error, BrokerRefusedError):
            pause = max(pause, _REFUSED)
        self._failures += 1
        self._error = error
        self._until = time.monotonic() + pause * random.uniform(0.5, 1)  # noqa: S311 - no secret

    def succeeded(self) -> None:
        """Note an attempt that succeeded."""
        self._failures, self._until, self._error = 0, 0.0, None
