"""Succession: a consumer that starts leaves the work to a living one, and buries a dead one.

Several consumers on a queue are safe, so this is hygiene, not a lock: it keeps the schedule that
brings a lost consumer back from piling up consumers.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from prefect.settings import get_current_settings

from blocks.message import utc_now
from noa_flows.prefect_api import PrefectApi

Logger = logging.Logger | logging.LoggerAdapter[Any]

HEARTBEAT: Final = "prefect.flow-run.heartbeat"
_PREFECTS_DEFAULT_BEAT: Final = 180
_MISSED_BEATS: Final = 3
_GRACE: Final = timedelta(seconds=10)


async def living_predecessor(api: PrefectApi, own_run: str, logger: Logger) -> str | None:
    """Return the name of an older run of the same deployment that is alive, if there is one.

    An older run that is silent is set Crashed, since nobody else may be left to say so.
    """
    deadline = _silence_of_the_dead()
    for run in await _older_runs(api, own_run):
        silent_for = utc_now() - await last_sign_of_life(api, run)
        if silent_for < deadline:
            return str(run["name"])
        logger.warning("%s has been silent for %s; it is dead.", run["name"], silent_for)
        await api.force_state(
            run["id"],
            state_type="CRASHED",
            name="Crashed",
            message=f"No heartbeat for {silent_for.total_seconds():.0f} s; found by its successor.",
        )
    return None


def _silence_of_the_dead() -> timedelta:
    """How long a run without a sign of life may still be alive.

    All runs of a deployment beat at the same rate, so that the own rate tells that of the others.
    """
    seconds = get_current_settings().flows.heartbeat_frequency or _PREFECTS_DEFAULT_BEAT
    return timedelta(seconds=seconds) * _MISSED_BEATS + _GRACE


async def _older_runs(api: PrefectApi, own_run: str) -> Sequence[Mapping[str, Any]]:
    own = (await api.filter_runs({"id": {"any_": [own_run]}}))[0]
    if own["deployment_id"] is None:
        return []
    running = await api.filter_runs(
        {
            "deployment_id": {"any_": [own["deployment_id"]]},
            "state": {"name": {"any_": ["Running", "Retrying", "AwaitingRetry", "Cancelling"]}},
        }
    )
    return [run for run in running if run["start_time"] < own["start_time"]]


async def last_sign_of_life(api: PrefectApi, run: Mapping[str, Any]) -> datetime:
    """When a run that has begun was last heard of."""
    beat = await api.last_event(HEARTBEAT, f"prefect.flow-run.{run['id']}")
    newest = beat["occurred"] if beat else run["start_time"]
    return datetime.fromisoformat(newest)
