"""The backlog: how many runs of each band wait in Prefect, and so what may be taken."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from blocks.message import Band, utc_now
from noa_flows.bridge.order import work_queue
from noa_flows.prefect_api import PrefectApi

_RECOUNT_AFTER_SECONDS: Final = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """What may be taken: up to so many messages, of this band and those above it."""

    messages: int
    lowest: Band


class Backlog:
    """Counts the waiting runs of some deployments, once a second at the most.

    Each band has a limit of its own, so that a backlog of low ones doesn't keep high ones out. A
    full band does close those below it: their runs would wait for all of its runs anyway. Runs that
    are scheduled for later don't count: they wait for their time, not for a worker.

    Args:
        api: Prefect.
        deployment_ids: The deployments whose runs count.
        max_waiting: The limit of each band.
        selects_band: Whether the broker can leave a band in the queue. If not, a full band closes
            all.
        clock: Seconds, as `time.monotonic`.
    """

    def __init__(
        self,
        api: PrefectApi,
        *,
        deployment_ids: Sequence[str],
        max_waiting: int,
        selects_band: bool,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._api = api
        self._deployment_ids = list(deployment_ids)
        self._max_waiting = max_waiting
        self._selects_band = selects_band
        self._clock = clock
        self._counted_at = float("-inf")
        self._room = dict.fromkeys(Band, 0)

    async def room(self) -> Room | None:
        """What may be taken now; None where intake has to pause.

        Raises:
            PrefectApiError: Prefect can't be asked.
        """
        if self._clock() - self._counted_at >= _RECOUNT_AFTER_SECONDS:
            waiting = await self._count()
            self._room = {band: self._max_waiting - count for band, count in waiting.items()}
            self._counted_at = self._clock()
        return self._offer()

    def reserve(self, band: Band) -> bool:
        """Take note of a run to be created; False where its band is full."""
        if self._room[band] <= 0:
            return False
        self._room[band] -= 1
        return True

    def _offer(self) -> Room | None:
        room: Room | None = None
        for band in Band:
            if self._room[band] <= 0:
                return room if self._selects_band else None
            fewest = min(self._room[band], room.messages) if room else self._room[band]
            room = Room(messages=fewest, lowest=band)
        return room

    async def _count(self) -> dict[Band, int]:
        """Count the waiting runs; those in queues of other names are as good as normal ones."""
        everything = await self._waiting()
        if everything < self._max_waiting:
            # No band can be full: what is an upper bound of each saves two calls.
            return dict.fromkeys(Band, everything)
        high, low = await self._waiting(Band.HIGH), await self._waiting(Band.LOW)
        return {Band.HIGH: high, Band.NORMAL: everything - high - low, Band.LOW: low}

    async def _waiting(self, band: Band | None = None) -> int:
        criteria: dict[str, Any] = {
            "deployment_id": {"any_": self._deployment_ids},
            "state": {"type": {"any_": ["SCHEDULED", "PENDING"]}},
            "expected_start_time": {"before_": utc_now().isoformat()},
        }
        if band is not None:
            criteria["work_queue_name"] = {"any_": [work_queue(band)]}
        return await self._api.count_runs(criteria)
