"""Which flow runs a worker takes, and when: at once, as many as it has processes for, each once."""

import asyncio
import time
from abc import ABC
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import httpx
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.exceptions import Abort
from prefect.states import Pending
from prefect.utilities.engine import propose_state
from prefect.workers.process import ProcessWorker
from typing_extensions import override

from blocks.message import utc_now
from noa_flows.worker.arrivals import watch_arrivals

#: No run is taken by another worker, and ends, within it.
_FRESH_SECONDS: Final = 0.2
#: A worker that has no use for more runs asks this often nevertheless: to be known alive, and since
#: one of a higher priority may have come.
_LONGEST_SILENCE_SECONDS: Final = 2
_PAUSE_SECONDS: Final = 1


class PromptWorker(ProcessWorker, ABC):
    """Looks for runs as soon as they are announced, or a process is free for one that waits.

    Prefect's worker looks every few seconds, for as many as there are. Abstract, so that Prefect
    doesn't take it for a worker type of its own.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        #: Polled, and not submitted yet, for want of a free process.
        self._waiting = deque[WorkerFlowRunResponse]()
        #: When the last poll began that named a run.
        self._named: dict[UUID, float] = {}
        #: More runs wait, or have been announced since the last poll.
        self._has_news = False
        self._is_polling = False
        self._arrivals: asyncio.Task[None] | None = None
        self._takes_runs = True
        self._asked = 0.0
        #: No run is at hand any more, where the worker takes no others.
        self._idle = asyncio.Event()

    async def finish_runs(self) -> None:
        """Take no more runs, and return once those at hand have ended."""
        self._takes_runs = False
        self._waiting.clear()
        self._idle.clear()
        if self.limiter.borrowed_tokens > 0:
            await self._idle.wait()

    @override
    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Look for work where there is a process for it, and often enough to be known alive."""
        if not self._takes_runs:
            return []
        is_full = self.limiter.available_tokens == 0
        if is_full and time.monotonic() - self._asked < _LONGEST_SILENCE_SECONDS:
            self._has_news = True
            return []
        self._asked = time.monotonic()
        return await super().get_and_submit_flow_runs()

    @override
    async def teardown(self, *exc_info: Any) -> None:
        if self._arrivals is not None:
            self._arrivals.cancel()
        await super().teardown(*exc_info)

    @override
    async def _initialize_after_sync(self) -> None:
        await super()._initialize_after_sync()
        if self._work_pool is not None and self._arrivals is None:
            self._arrivals = asyncio.create_task(
                watch_arrivals(self._work_pool.id, self._look_for_work)
            )

    def _look_for_work(self) -> None:
        """Poll now, or as soon as a process is free."""
        self._has_news = True
        if self._is_polling or not self.is_setup or self.limiter.available_tokens == 0:
            return
        self._is_polling = True
        self._do_aside(self._poll_while_there_are_news)

    async def _poll_while_there_are_news(self) -> None:
        try:
            while self._has_news and self.limiter.available_tokens > 0:
                self._has_news = False
                await self.get_and_submit_flow_runs()
        except Exception as error:  # noqa: BLE001 — Prefect's own loop polls as well, and counts
            self._logger.debug("could not poll: %s", error)
        finally:
            self._is_polling = False

    @override
    async def _get_scheduled_flow_runs(self) -> list[WorkerFlowRunResponse]:
        """Ask for as many runs as can be of use soon: the server would send a thousand."""
        asked, limit = time.monotonic(), 2 * int(self.limiter.total_tokens)
        due = utc_now() + timedelta(seconds=int(self._prefetch_seconds))
        wanted: dict[str, Any] = {"scheduled_before": due.isoformat(), "limit": limit}
        if self._work_queues:
            wanted["work_queue_names"] = sorted(self._work_queues)
        try:
            answer = await self.client.request(
                "POST",
                "/work_pools/{name}/get_scheduled_flow_runs",
                path_params={"name": self._work_pool_name},
                json=wanted,
            )
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.NOT_FOUND.value:
                return []  # the next heartbeat makes the pool, or says that it isn't there
            raise
        found = WorkerFlowRunResponse.model_validate_list(answer.json())
        self._named = {one.flow_run.id: asked for one in found}
        # Those at hand may be among them; where there are so many, there may be more.
        self._has_news |= len(found) == limit
        return found

    @override
    async def _submit_scheduled_flow_runs(
        self, flow_run_response: list[WorkerFlowRunResponse]
    ) -> list[FlowRun]:
        """Submit as many as there are processes for, and keep the others until one is free."""
        self._waiting = deque(flow_run_response)
        return await self._submit_waiting()

    async def _submit_waiting(self) -> list[FlowRun]:
        submitted: list[FlowRun] = []
        while self._waiting and self.limiter.available_tokens > 0:
            one = self._waiting.popleft()
            # The answer to an older question may name a run that is at hand meanwhile.
            if one.flow_run.id not in self.limiter.statistics().borrowers:
                submitted += await super()._submit_scheduled_flow_runs([one])
        return submitted

    @override
    async def _submit_run(self, flow_run: FlowRun) -> None:
        """Submit a run; give its place back where Prefect forgets to, if its deployment is gone.

        A deleted deployment leaves runs that its schedule was about to make, and each would take a
        place from the others until the worker ends.
        """
        await super()._submit_run(flow_run)
        was_taken = flow_run.state is not None and flow_run.state.is_pending()
        if not was_taken and flow_run.id in self.limiter.statistics().borrowers:
            self._release_limit_slot(flow_run.id)

    @override
    async def _propose_pending_state(self, flow_run: FlowRun) -> bool:
        """Take the run, where nobody else has, and remember the state that it is in by that."""
        logger = self.get_flow_run_logger(flow_run)
        try:
            if not await self._is_there_still(flow_run):
                logger.info("The run %s isn't taken: it isn't scheduled any more.", flow_run.id)
                return False
            state = await propose_state(self.client, Pending(), flow_run_id=flow_run.id)
        except Abort as abort:
            logger.info("The run %s isn't taken: %s", flow_run.id, abort)
            return False
        except Exception:
            logger.exception("The run %s can't be taken; it is tried again.", flow_run.id)
            await asyncio.sleep(_PAUSE_SECONDS)
            return False
        if not state.is_pending():
            logger.info("The run %s isn't taken: it is %s now.", flow_run.id, state.name)
            return False
        flow_run.state = state
        return True

    async def _is_there_still(self, flow_run: FlowRun) -> bool:
        """Whether a run is still to be taken, that may have been named a while ago.

        Prefect's server lets a run begin again that has ended meanwhile, unless it has completed
        with a persisted result.
        """
        if time.monotonic() - self._named.get(flow_run.id, 0) < _FRESH_SECONDS:
            return True
        now = await self.client.read_flow_run(flow_run.id)
        return now.state is not None and now.state.is_scheduled()

    @override
    def _release_limit_slot(self, flow_run_id: UUID) -> None:
        super()._release_limit_slot(flow_run_id)
        if self.limiter.borrowed_tokens == 0:
            self._idle.set()
        if not self.is_setup or not self._takes_runs:
            return
        if self._waiting:
            self._do_aside(self._submit_waiting)
        elif self._has_news:
            self._look_for_work()

    def _do_aside(self, work: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        """Do something beside the runs; where it fails, the worker goes on."""

        async def do() -> None:
            try:
                await work(*arguments)
            except Exception:
                self._logger.exception("The worker goes on without %s.", work.__name__)

        assert self._runs_task_group is not None, "the worker isn't set up"
        self._runs_task_group.start_soon(do)
