"""The backlog: how many runs wait in Prefect, and so how many messages may be taken."""

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final

from blocks.message import utc_now
from noa_flows.prefect_api import PrefectApi

_RECOUNT_AFTER_SECONDS: Final = 1.0


class Backlog:
    """Counts the waiting runs of some deployments, once a second at the most.

    Runs that are scheduled for later don't count: they wait for their time, not for a worker.
    """

    def __init__(
        self,
        api: PrefectApi,
        *,
        deployment_ids: Sequence[str],
        max_waiting: int,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._api = api
        self._deployment_ids = list(deployment_ids)
        self._max_waiting = max_waiting
        self._clock = clock
        self._counted_at = float("-inf")
        self._room = 0

    async def room(self) -> int:
        """How many more runs may wait; 0 or less where intake has to pause.

        Raises:
            PrefectApiError: Prefect can't be asked.
        """
        if self._clock() - self._counted_at >= _RECOUNT_AFTER_SECONDS:
            self._room = self._max_waiting - await self._count()
            self._counted_at = self._clock()
        return self._room

    def add(self, runs: int) -> None:
        """Take note of runs created since the last count."""
        self._room -= runs

    async def _count(self) -> int:
        return await self._api.count_runs(
            {
                "deployment_id": {"any_": self._deployment_ids},
                "state": {"type": {"any_": ["SCHEDULED", "PENDING"]}},
                "expected_start_time": {"before_": utc_now().isoformat()},
            }
        )
