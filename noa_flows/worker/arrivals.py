"""Says at once that a flow run has come to a work pool, where a worker would have to poll."""

import asyncio
from collections.abc import Callable
from typing import Final
from uuid import UUID

from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter
from prefect.logging import get_logger

#: The states in which a run waits for a worker.
_STATES: Final = ("Scheduled", "AwaitingRetry", "Late", "Resuming")
_PAUSE_SECONDS: Final = 5


async def watch_arrivals(work_pool_id: UUID, notify: Callable[[], None]) -> None:
    """Call `notify` for each run that is scheduled in a pool, until cancelled.

    Runs that came while the connection was lost aren't announced: the worker polls as well.
    """
    arrivals = EventFilter(
        event=EventNameFilter(name=[f"prefect.flow-run.{state}" for state in _STATES]),
        any_resource=EventAnyResourceFilter(id=[f"prefect.work-pool.{work_pool_id}"]),
    )
    while True:
        try:
            async with get_events_subscriber(filter=arrivals) as events:
                async for _ in events:
                    notify()
        except Exception as error:  # noqa: BLE001 — whatever it is, polling goes on meanwhile
            get_logger("noa_flows.worker").debug("no announcements of new runs: %s", error)
        await asyncio.sleep(_PAUSE_SECONDS)
