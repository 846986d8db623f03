"""SIGTERM ends a consumer, whatever code it interrupts.

Prefect's handler raises `TerminationSignal` in the code that runs at that moment. Where that is a
callback of the event loop, or another task than the consumer's, the exception ends there and the
consumer would go on until it is killed. The handler has to stay, since Prefect takes a cancellation
for one only while it is installed; so the signal is noticed a second time, by Python's wakeup file.
"""

import asyncio
import signal
import socket
import threading
from types import TracebackType
from typing import Self

from prefect.exceptions import TerminationSignal


class Termination:
    """Ends the block by `TerminationSignal` when SIGTERM comes and the signal got lost.

    Does nothing outside the main thread, where no signal is handled.

    Example:
        >>> with Termination():
        ...     await bridge.run()
    """

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._got_lost = False

    def __enter__(self) -> Self:
        self._is_main = threading.current_thread() is threading.main_thread()
        if self._is_main:
            self._here, self._there = socket.socketpair()
            for end in (self._here, self._there):
                end.settimeout(0)
            self._previous = signal.set_wakeup_fd(self._there.fileno(), warn_on_full_buffer=False)
            asyncio.get_running_loop().add_reader(self._here, self._notice)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_main:
            return
        asyncio.get_running_loop().remove_reader(self._here)
        signal.set_wakeup_fd(self._previous)
        self._here.close()
        self._there.close()
        if self._got_lost and self._task is not None:
            self._task.uncancel()
            raise TerminationSignal(signal.SIGTERM) from error

    def _notice(self) -> None:
        signals = self._here.recv(4096)
        # Whoever is being cancelled already mustn't be disturbed in its cleaning up.
        if signal.SIGTERM in signals and self._task is not None and not self._task.cancelling():
            self._got_lost = True
            self._task.cancel()
