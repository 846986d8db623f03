"""`noa status`: what became of a job."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from prefect.utilities.urls import url_for

from noa_flows.bridge.dead_letters import DeadLetters
from noa_flows.bridge.intake import message_tag
from noa_flows.cli.options import (
    DEFAULT_QUEUE,
    BrokerOption,
    JsonOption,
    QueueOption,
    open_session,
)
from noa_flows.errors import NotFoundError
from noa_flows.prefect_api import connect_to_prefect


def status(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="What `noa publish` printed.")],
    *,
    broker: BrokerOption = "",
    queue: QueueOption = DEFAULT_QUEUE,
    as_json: JsonOption = False,
) -> None:
    """Show the flow runs of a job, or its dead letter."""
    found = asyncio.run(_runs(job_id))
    if not found:
        found = [asyncio.run(_dead_letter(job_id, broker, queue))]
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for entry in found:
        typer.echo("\n".join(f"{name:<8} {value}" for name, value in entry.items() if value))


async def _runs(job_id: str) -> Sequence[Mapping[str, Any]]:
    async with connect_to_prefect() as api:
        runs = await api.filter_runs({"tags": {"all_": [message_tag(job_id)]}})
    return [
        {
            "run": run["name"],
            "state": run["state_name"],
            "message": (run.get("state") or {}).get("message"),
            "started": run.get("start_time"),
            "ended": run.get("end_time"),
            "id": run["id"],
            "link": url_for("flow-run", run["id"]),
        }
        for run in runs
    ]


async def _dead_letter(job_id: str, broker: str, queue: str) -> Mapping[str, Any]:
    """Look for the job where it would be if it had no run."""
    async with open_session(broker) as session:
        depth = await session.depth(queue)
        try:
            letter = await DeadLetters(session, queue).find(job_id)
        except NotFoundError:
            waiting = depth.ready + depth.delayed + depth.in_flight
            raise NotFoundError(
                f"job {job_id!r} has no run and no dead letter; {waiting} messages wait in the "
                f"queue {queue!r}, and it may be one of them"
            ) from None
    return {
        "job": letter.id,
        "state": "dead",
        "reason": letter.reason,
        "message": letter.error,
        "ended": letter.died_at.isoformat(),
    }
