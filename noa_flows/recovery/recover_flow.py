"""The flow that recovers runs; one of its runs works at a time."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from blocks.errors import BrokerError
from blocks.message import utc_now
from noa_flows.errors import NoaError
from noa_flows.prefect_api import PATIENT, PrefectApi, connect_to_prefect
from noa_flows.recovery.interrupted import crashed_runs, decide
from noa_flows.recovery.stuck import release_the_stuck
from noa_flows.settings import get_settings

#: A recovery that died is noticed within two minutes; until then it passes for one at work.
_PATIENCE_SECONDS: Final = 300
_LOOK_SECONDS: Final = 0.5


@flow(name="recover", retries=3, retry_delay_seconds=30)
async def recover() -> dict[str, int]:
    """Execute interrupted runs of jobs again, or give them up, as each job declares.

    An automation starts this when a run has crashed, and a schedule every few minutes, since an
    event may be lost. Doing it again is harmless.

    Returns:
        How many runs met which fate.

    Raises:
        NoaError: Some runs could not be dealt with, such as for a broker that is away; the others
            have been.
    """
    logger, settings = get_run_logger(), get_settings()
    met = Counter[str]()
    left: list[str] = []
    async with connect_to_prefect(max_retries=PATIENT) as api:
        if not await _is_our_turn(api):
            logger.info("Another recovery that hasn't looked yet does it all.")
            return {}
        await release_the_stuck(api, settings.workers, now=utc_now())
        for run in await crashed_runs(api):
            try:
                fate = await decide(api, run, settings)
            except (NoaError, BrokerError) as error:
                logger.warning("%s can't be dealt with: %s", run["name"], error)
                left.append(str(run["name"]))
                continue
            if fate is not None:
                logger.info("%s is %s.", run["name"], fate)
                met[fate] += 1
    if left:
        raise NoaError(f"{len(left)} interrupted runs are left, such as {left[0]}; see the log")
    return dict(met)


async def _is_our_turn(api: PrefectApi) -> bool:
    """Wait for a recovery that is at work, and leave it all to one that is waiting already.

    Two at a time would dead-letter the same message. The one that waits looks for crashed runs
    later than now, so that it finds all that this one would.
    """
    own = str(flow_run.get_id())
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while older := await _older_recoveries(api, own):
            if len(older) > 1:
                return False
            await asyncio.sleep(_LOOK_SECONDS)
    return True


async def _older_recoveries(api: PrefectApi, own: str) -> Sequence[str]:
    this = await api.read_run(own)
    if this["deployment_id"] is None:
        return []  # called by hand
    running = await api.filter_runs(
        {
            "deployment_id": {"any_": [this["deployment_id"]]},
            "state": {"type": {"any_": ["RUNNING"]}},
        }
    )
    began = (this["start_time"], this["id"])
    return [run["id"] for run in running if (run["start_time"], run["id"]) < began]
