"""What many runs share, read from Prefect's server once a second at most."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

from prefect.client.orchestration import PrefectClient

T = TypeVar("T")

#: So old what is read may be: a change to a deployment holds for runs that start a second later.
_FRESH_SECONDS: Final = 1.0
#: More than there are deployments that run within a second.
_REMEMBERED: Final = 1000
_SHARED: Final = (
    "read_deployment",
    "read_flow",
    "read_work_queue",
    "read_server_default_result_storage",
)


def share_reads(client: PrefectClient) -> None:
    """Let a client answer so what is asked for each run, and is the same for most."""
    for method in _SHARED:
        setattr(client, method, Reads(getattr(client, method)))


class Reads(Generic[T]):
    """Remembers what a call returned for its arguments, for a second.

    Callers at the same time share one call; one that fails is forgotten.
    """

    def __init__(self, call: Callable[..., Awaitable[T]]) -> None:
        self._call = call
        self._found: dict[tuple[Any, ...], tuple[float, asyncio.Future[T]]] = {}

    async def __call__(self, *arguments: Any) -> T:
        """Call, or return what has been read already."""
        now = time.monotonic()
        read, future = self._found.get(arguments, (-_FRESH_SECONDS, None))
        if future is None or now - read >= _FRESH_SECONDS:
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
