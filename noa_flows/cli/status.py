"""`noa status`: what became of a job."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import MissingResult
from prefect.utilities.urls import url_for
from pydantic import BaseModel

from noa_flows.bridge.dead_letters import DeadLetters, event_id
from noa_flows.bridge.intake import message_tag
from noa_flows.cli.options import (
    DEFAULT_QUEUE,
    BrokerOption,
    JsonOption,
    QueueOption,
    open_session,
)
from noa_flows.errors import NotFoundError
from noa_flows.prefect_api import PATIENT, PrefectApi, connect_to_prefect

_POLL_SECONDS: Final = 0.5


def status(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="What `noa publish` printed.")],
    *,
    broker: BrokerOption = "",
    queue: QueueOption = DEFAULT_QUEUE,
    wait: Annotated[
        float, typer.Option(min=0.0, help="Wait so many seconds at most until it has ended.")
    ] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Show the flow runs of a job with their results, or its dead letter."""
    found = asyncio.run(_find(job_id, broker, queue, wait))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for entry in found:
        lines = [f"{name:<8} {value}" for name, value in entry.items() if value is not None]
        typer.echo("\n".join(lines))


async def _find(job_id: str, broker: str, queue: str, wait: float) -> Sequence[Mapping[str, Any]]:
    deadline = time.monotonic() + wait
    async with connect_to_prefect(max_retries=PATIENT) as api:
        while True:
            found = await _runs(api, job_id)
            ended = bool(found) and all(entry["ended"] for entry in found)
            if ended or (found and time.monotonic() >= deadline):
                return found
            if not found and (letter := await _dead_letter(job_id, broker, queue)):
                return [letter]
            if time.monotonic() >= deadline:
                raise NotFoundError(
                    f"job {job_id!r} has no run and no dead letter; it may still wait in the "
                    f"queue {queue!r}, which `noa check` shows"
                )
            await asyncio.sleep(_POLL_SECONDS)


async def _runs(api: PrefectApi, job_id: str) -> Sequence[Mapping[str, Any]]:
    runs = await api.filter_runs({"tags": {"all_": [message_tag(job_id)]}})
    return [
        {
            "run": run["name"],
            "state": run["state_name"],
            "message": (run.get("state") or {}).get("message"),
            "started": run.get("start_time"),
            "ended": run.get("end_time"),
            "result": await _result(run.get("state")),
            "id": run["id"],
            "link": url_for("flow-run", run["id"]),
        }
        for run in runs
    ]


async def _result(state: Mapping[str, Any] | None) -> Any:
    """Read a completed run's result, where its storage can be reached from here."""
    if state is None or state["type"] != StateType.COMPLETED:
        return None
    try:
        result = await State[Any].model_validate(state).aresult(raise_on_failure=False)
    except (MissingResult, OSError, ValueError):
        return None
    return result.model_dump(mode="json") if isinstance(result, BaseModel) else result


async def _dead_letter(job_id: str, broker: str, queue: str) -> Mapping[str, Any] | None:
    """Look for the job where it would be if it could have no run."""
    async with open_session(broker) as session:
        try:
            letter = await DeadLetters(session, queue).find(job_id)
        except NotFoundError:
            return None
    return {
        "job": event_id(letter),
        "state": "dead",
        "reason": letter.reason,
        "message": letter.error,
        "ended": letter.died_at.isoformat(),
    }
