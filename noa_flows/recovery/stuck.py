"""States that a run doesn't leave any more once its worker has died."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from noa_flows.consumers.succession import last_sign_of_life
from noa_flows.prefect_api import PrefectApi
from noa_flows.settings import WorkerSettings

_OURS: Final = ("noa", "noa-recovery")
_BEATING: Final = ("heartbeat:30s",)


@dataclass(frozen=True)
class _Stuck:
    """States, the tags of the runs that are looked at, and where they go from there."""

    names: Sequence[str]
    tags: Sequence[str]
    patience: timedelta
    then: tuple[str, str]


def _states(settings: WorkerSettings) -> Sequence[_Stuck]:
    """The automations end the latter two sooner, where no event is lost."""
    pending = timedelta(seconds=settings.pending_seconds)
    return (
        # InfrastructurePending isn't here: what a worker has started elsewhere can do without it.
        _Stuck(("Pending", "Submitting"), _OURS, pending, ("SCHEDULED", "Scheduled")),
        _Stuck(("Cancelling",), _OURS, timedelta(minutes=3), ("CANCELLED", "Cancelled")),
        _Stuck(("Running", "Retrying"), _BEATING, timedelta(minutes=5), ("CRASHED", "Crashed")),
    )


async def release_the_stuck(api: PrefectApi, settings: WorkerSettings, *, now: datetime) -> None:
    """Let runs out of the states that a dead worker has left them in.

    Automations live on events, and a server that dies takes some with it.
    """
    for stuck in _states(settings):
        wanted = {"tags": {"any_": stuck.tags}, "state": {"name": {"any_": stuck.names}}}
        for run in [run async for run in api.find_all_runs(wanted)]:
            silent_for = now - await _last_news(api, run)
            if silent_for > stuck.patience:
                await _release(api, run, stuck, silent_for)


async def _last_news(api: PrefectApi, run: Mapping[str, Any]) -> datetime:
    since = datetime.fromisoformat(run["state"]["timestamp"])
    return max(since, await last_sign_of_life(api, run)) if run["start_time"] else since


async def _release(
    api: PrefectApi, run: Mapping[str, Any], stuck: _Stuck, silent_for: timedelta
) -> None:
    now = await api.read_run(run["id"])
    if now["state_id"] != run["state_id"]:
        return
    state_type, name = stuck.then
    minutes = silent_for / timedelta(minutes=1)
    message = f"{now['state_name']} and silent for {minutes:.0f} minutes; its worker is gone."
    await api.force_state(run["id"], state_type=state_type, name=name, message=message)
