"""Watches for runs that are to be cancelled or suspended, however long Prefect's server is away.

Prefect's own observers follow events until a connection is lost for ten seconds, poll from then on,
and give up for good after three polls that failed: a worker that outlives its server would cancel
nothing any more. An event, too, may be lost with the server. These do both, for ever.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.events.clients import get_events_subscriber
from prefect.logging import get_logger
from prefect.states import Cancelling
from typing_extensions import override

from noa_flows.prefect_internals import FlowRunCancellingObserver, FlowRunSuspendingObserver

_PAUSE_SECONDS: Final = 2
#: Longer than it takes from Pending to a process.
_STARTING_SECONDS: Final = 60


class CancellationObserver(FlowRunCancellingObserver):
    """Says once of each run that it is to be cancelled, whichever way it becomes known."""

    def __init__(self, on_cancelling: Callable[[UUID], None], **options: Any) -> None:
        super().__init__(self._tell, **options)
        self._tell_worker = on_cancelling
        self._told = set[UUID]()
        #: To be cancelled, and not in a process: of all runs, oldest first, with the time.
        self._early: dict[UUID, float] = {}
        self._passing_on = set[asyncio.Task[None]]()

    def has_told(self, flow_run_id: UUID) -> bool:
        """Whether a run that goes on was said to be cancelled."""
        return flow_run_id in self._told

    async def insist(self, flow_run_id: UUID) -> None:
        """Let a run be Cancelling again that was so, if its start has undone it.

        Of two requests at the same time, Prefect's server lets the second undo the first.

        Raises:
            httpx.HTTPError: Prefect's server doesn't answer, or says no.
        """
        assert self._client is not None, "the observer isn't entered"
        state = (await self._client.read_flow_run(flow_run_id)).state
        if state is None or not (state.is_pending() or state.is_running()):
            return
        attempt: list[str] = []
        for one in await self._client.read_flow_run_states(flow_run_id):
            attempt = [] if one.is_pending() else [*attempt, one.type]
        if StateType.CANCELLING in attempt:
            await self._client.set_flow_run_state(flow_run_id, Cancelling())

    def _tell(self, flow_run_id: UUID) -> None:
        if flow_run_id not in self._told:
            self._told.add(flow_run_id)
            self._tell_worker(flow_run_id)

    @override
    def add_in_flight_flow_run_id(self, flow_run_id: UUID) -> None:
        super().add_in_flight_flow_run_id(flow_run_id)
        if self._early.pop(flow_run_id, None) is not None:
            # Where it fails, the next look finds it.
            task = asyncio.create_task(self._pass_on(flow_run_id))
            self._passing_on.add(task)
            task.add_done_callback(self._passing_on.discard)

    @override
    def remove_in_flight_flow_run_id(self, flow_run_id: UUID) -> None:
        super().remove_in_flight_flow_run_id(flow_run_id)
        self._told.discard(flow_run_id)

    @override
    async def __aenter__(self) -> Self:
        self._client = await self._exit_stack.enter_async_context(get_client())
        self._consumer_task = asyncio.create_task(_for_ever(self._follow, _PAUSE_SECONDS))
        self._polling_task = asyncio.create_task(_for_ever(self._look, self.polling_interval))
        return self

    async def _follow(self) -> None:
        async with get_events_subscriber(filter=self._event_filter) as events:
            async for event in events:
                try:
                    flow_run_id = UUID(event.resource.id.removeprefix("prefect.flow-run."))
                except ValueError:
                    continue  # anybody may emit an event of that name
                if flow_run_id in self._in_flight_flow_run_ids:
                    await self._pass_on(flow_run_id)
                else:
                    self._remember(flow_run_id)

    async def _pass_on(self, flow_run_id: UUID) -> None:
        await self.insist(flow_run_id)
        self._tell(flow_run_id)

    def _remember(self, flow_run_id: UUID) -> None:
        """Keep what concerns a run that may be about to get its process."""
        now = time.monotonic()
        self._early.pop(flow_run_id, None)
        self._early[flow_run_id] = now
        for known, since in list(self._early.items()):
            if now - since < _STARTING_SECONDS:
                break
            del self._early[known]

    async def _look(self) -> None:
        if self._in_flight_flow_run_ids - self._told:
            await self._check_for_cancelled_flow_runs()


class SuspensionObserver(FlowRunSuspendingObserver):
    """Says of each run that it is suspended; it needn't read one whose state is known."""

    def watch(self, flow_run_id: UUID, state: State[Any]) -> None:
        """Watch a run from a state on that the server has just accepted."""
        self._watches[flow_run_id] = watch = self._create_watch(flow_run_id)
        watch.initialize(state)

    @override
    async def __aenter__(self) -> Self:
        self._client = await self._exit_stack.enter_async_context(get_client())
        self._consumer_task = asyncio.create_task(_for_ever(self._follow, _PAUSE_SECONDS))
        self._polling_task = asyncio.create_task(
            _for_ever(self._check_for_suspended_flow_runs, self.polling_interval)
        )
        return self

    async def _follow(self) -> None:
        async with get_events_subscriber(filter=self._event_filter) as self._events_subscriber:
            await self._consume_events()


async def _for_ever(work: Callable[[], Awaitable[None]], pause_seconds: float) -> None:
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 — the server is away; it is tried again
            get_logger("noa_flows.worker").debug("could not watch runs: %s", error)
        await asyncio.sleep(pause_seconds)
