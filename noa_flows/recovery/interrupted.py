"""What becomes of a job's run that was interrupted: another execution, or the dead letters.

Whoever notices the death sets the run Crashed: its worker, or an automation where the worker is
gone, too. What follows is decided here, as the job declares.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final

from blocks.message import Message, utc_now
from blocks.providers import load_broker
from noa_flows.bridge.intake import INTERRUPTED_HEADER
from noa_flows.claim_check import fetch_parameters
from noa_flows.envelope import encode
from noa_flows.errors import NotFoundError, PermanentJobError
from noa_flows.event import Event
from noa_flows.jobs import AnyJob, find_job
from noa_flows.labels import (
    BROKER,
    CAUSATION_ID,
    CORRELATION_ID,
    DATAREF,
    GENERATION,
    MESSAGE_ID,
    QUEUE,
    REPLY_TO,
    SOURCE,
    TENANT,
    TRACEPARENT,
)
from noa_flows.prefect_api import PrefectApi
from noa_flows.settings import Settings

#: The name of the state, of the type Crashed, that a run is left in for good.
INTERRUPTED: Final = "Interrupted"
_JOB_TAG: Final = "job:"
#: Nobody waits for what crashed longer ago, and nobody wants it to begin by surprise.
_LOOKS_BACK: Final = timedelta(days=7)
#: Before the first further execution; doubled for each. Workers take a run up to ten seconds before
#: it is due (Prefect's `worker.prefetch_seconds`).
_PAUSE: Final = timedelta(seconds=5)


class Fate(StrEnum):
    """What becomes of an interrupted run."""

    RERUN = "executed again"
    DEAD = "dead-lettered"
    GIVEN_UP = "given up"


async def crashed_runs(api: PrefectApi) -> Sequence[Mapping[str, Any]]:
    """Find the runs whose fate isn't decided yet."""
    wanted = {
        "tags": {"all_": ["noa"]},
        "state": {"name": {"any_": ["Crashed"]}},
        "expected_start_time": {"after_": (utc_now() - _LOOKS_BACK).isoformat()},
    }
    return [run async for run in api.find_all_runs(wanted) if run["deployment_id"] is not None]


async def decide(api: PrefectApi, run: Mapping[str, Any], settings: Settings) -> Fate | None:
    """Deal with one run; None where it is nobody's job, or not crashed any more.

    Raises:
        BrokerError: Its message can't be sent to the dead letters now.
        ConfigurationError: Its job can't be loaded.
    """
    job = _job_of(run)
    if job is None:
        return None
    states = await api.read_states(run["id"])
    # The history is in the order in which states were asked for, not that in which they held.
    if (await api.read_run(run["id"]))["state_name"] != "Crashed":
        return None
    deaths, limit = interruptions(states), settings.workers.max_interruptions
    may_begin = not (job.interrupted == "dead" and has_begun(states))
    if deaths == 0 or (deaths <= limit and may_begin):
        message = f"Interrupted; executed again ({deaths} of {limit})."
        at = utc_now() + _PAUSE * 2 ** max(0, deaths - 1)
        return Fate.RERUN if await api.schedule_again(run["id"], at=at, message=message) else None
    fate = Fate.DEAD if await _bury(run, job, settings) else Fate.GIVEN_UP
    reason = f"{deaths} times" if deaths > 1 else "and its job must not begin twice"
    message = f"Interrupted {reason}; {fate}."
    # Whoever is killed here is followed by one that buries again; the bridge knows the message.
    await api.force_state(run["id"], state_type="CRASHED", name=INTERRUPTED, message=message)
    return fate


def interruptions(states: Sequence[Mapping[str, Any]]) -> int:
    """Count how often a run has crashed; several may notice the same death.

    A run that waits for its retry and is called crashed has no death behind it: an event of it was
    late, and it passed for silent.
    """
    kinds = ["", *(_kind(state) for state in states)]
    return sum(
        after == "CRASHED" and before not in {"CRASHED", "AwaitingRetry"}
        for before, after in pairwise(kinds)
    )


def _kind(state: Mapping[str, Any]) -> str:
    return "AwaitingRetry" if state["name"] == "AwaitingRetry" else str(state["type"])


def has_begun(states: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the first line of the job may have been executed."""
    return any(state["type"] == "RUNNING" for state in states)


def _job_of(run: Mapping[str, Any]) -> AnyJob | None:
    for tag in run["tags"]:
        if tag.startswith(_JOB_TAG):
            try:
                return find_job(tag.removeprefix(_JOB_TAG))
            except NotFoundError:
                return None
    return None


async def _bury(run: Mapping[str, Any], job: AnyJob, settings: Settings) -> bool:
    """Send the run's message back to its queue, marked, so that the consumer dead-letters it.

    Returns:
        False where the run isn't from a message, or its payload is gone.
    """
    labels = run["labels"]
    if QUEUE not in labels or MESSAGE_ID not in labels:
        return False
    parameters = run["parameters"]
    if DATAREF in labels:
        try:
            parameters = await fetch_parameters(str(labels[DATAREF]), settings.storage)
        except PermanentJobError:
            return False
    event = Event(
        id=str(labels[MESSAGE_ID]),
        source=str(labels[SOURCE]),
        job_type=job.name,
        data=parameters,
        correlation_id=labels.get(CORRELATION_ID),
        causation_id=labels.get(CAUSATION_ID),
        tenant=labels.get(TENANT),
        reply_to=labels.get(REPLY_TO),
        traceparent=labels.get(TRACEPARENT),
    )
    body, headers = encode(event)
    message = Message(
        body=body,
        headers={**headers, INTERRUPTED_HEADER: str(run["id"])},
        generation=int(labels.get(GENERATION, 0)),
    )
    broker = await load_broker(str(labels.get(BROKER, "")) or settings.provider.url)
    async with broker.connect() as session:
        (published,) = await session.publish(str(labels[QUEUE]), [message])
    if published.error is not None:
        raise published.error
    return True
