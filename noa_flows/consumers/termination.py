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
from collections.abc import Generator
from contextlib import contextmanager

from prefect.exceptions import TerminationSignal


@contextmanager
def ended_by_sigterm() -> Generator[None]:
    """End the block by `TerminationSignal` where SIGTERM came and the exception got lost.

    Does nothing outside the main thread, where no signal is handled.

    Example:
        >>> with ended_by_sigterm():
        ...     await bridge.run()
    """
    task = asyncio.current_task()
    if task is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    got_lost = False

    def notice() -> None:
        nonlocal got_lost
        # Whoever is being cancelled already mustn't be disturbed in its cleaning up.
        if signal.SIGTERM in here.recv(4096) and not task.cancelling():
            got_lost = True
            task.cancel()

    here, there = socket.socketpair()
    with here, there:
        here.settimeout(0)
        there.settimeout(0)
        loop = asyncio.get_running_loop()
        loop.add_reader(here, notice)
        previous = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            loop.remove_reader(here)
            if got_lost:
                task.uncancel()
                raise TerminationSignal(signal.SIGTERM)
