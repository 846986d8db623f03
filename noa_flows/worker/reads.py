"""What many runs share, read from Prefect's server once a second at most, or more rarely."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

from prefect.client.orchestration import PrefectClient

T = TypeVar("T")

#: More than there are deployments that run within a second.
_REMEMBERED: Final = 1000
#: Method → how old, in seconds, what it has read may be. A change to a deployment holds for runs
#: that start a second later; names of flows and queues, and the server's storage, hardly change.
_SHARED: Final = {
    "read_deployment": 1.0,
    "read_flow": 10.0,
    "read_work_queue": 10.0,
    "read_server_default_result_storage": 10.0,
}


def share_reads(client: PrefectClient) -> None:
    """Let a client answer so what is asked for each run, and is the same for most."""
    for method, fresh_seconds in _SHARED.items():
        setattr(client, method, Reads(getattr(client, method), fresh_seconds))


class Reads(Generic[T]):
    """Remembers for a while what a call returned for its arguments.

    Callers at the same time share one call; one that fails is forgotten.
    """

    def __init__(self, call: Callable[..., Awaitable[T]], fresh_seconds: float) -> None:
        self._call, self._fresh_seconds = call, fresh_seconds
        self._found: dict[tuple[Any, ...], tuple[float, asyncio.Future[T]]] = {}

    async def __call__(self, *arguments: Any) -> T:
        """Call, or return what has been read already."""
        now = time.monotonic()
        read, future = self._found.get(arguments, (-self._fresh_seconds, None))
        if future is None or now - read >= self._fresh_seconds:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            future = asyncio.ensure_future(self._call(*arguments))
            self._found[arguments] = (now, future)
        try:
            # Who gives up must not take the others' answer away.
            return await asyncio.shield(future)
        except Exception:
            if self._found.get(arguments, (0, None))[1] is future:
                del self._found[arguments]
            raise
