"""Recovery: what becomes of the runs of jobs whose process, worker or machine died under them.

Whoever notices the death sets the run Crashed: its worker, or an automation where the worker is
gone, too. What follows is decided here, as the job declares.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final

from prefect import flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from blocks.errors import BrokerError
from blocks.message import Message, utc_now
from blocks.providers import load_broker
from noa_flows.bridge.intake import INTERRUPTED_HEADER
from noa_flows.claim_check import fetch_parameters
from noa_flows.consumers.succession import HEARTBEAT
from noa_flows.envelope import encode
from noa_flows.errors import NoaError, NotFoundError, PermanentJobError
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
from noa_flows.prefect_api import PATIENT, PrefectApi, connect_to_prefect
from noa_flows.settings import Settings, get_settings

Logger = logging.Logger | logging.LoggerAdapter[Any]

#: The name of the state, of the type Crashed, that a run is left in for good.
INTERRUPTED: Final = "Interrupted"
_JOB_TAG: Final = "job:"
#: Nobody waits for what crashed longer ago, and nobody wants it to begin by surprise.
_LOOKS_BACK: Final = timedelta(days=7)
#: Before the first further execution; doubled for each.
_PAUSE: Final = timedelta(seconds=5)
#: A recovery that died is noticed within two minutes; until then it passes for one at work.
_PATIENCE_SECONDS: Final = 300
_LOOK_SECONDS: Final = 0.5


class Fate(StrEnum):
    """What becomes of an interrupted run."""

    RERUN = "executed again"
    DEAD = "dead-lettered"
    GIVEN_UP = "given up"


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
    met: dict[str, int] = {}
    failed: list[str] = []
    async with connect_to_prefect(max_retries=PATIENT) as api:
        if not await _is_our_turn(api):
            logger.info("Another recovery that hasn't looked yet does it all.")
            return met
        await release_the_stuck(api, now=utc_now())
        for run in await _crashed_runs(api):
            try:
                fate = await _recover(api, run, settings)
            except (NoaError, BrokerError) as error:
                logger.warning("%s can't be dealt with: %s", run["name"], error)
                failed.append(str(run["name"]))
            else:
                if fate is not None:
                    logger.info("%s is %s.", run["name"], fate)
                    met[fate] = met.get(fate, 0) + 1
    if failed:
        raise NoaError(f"{len(failed)} interrupted runs are left, such as {failed[0]}; see the log")
    return met


@dataclass(frozen=True, kw_only=True)
class _Stuck:
    """A state that a run doesn't leave any more where its worker has died."""

    name: str
    tags: Sequence[str]
    #: Longer than the automation waits for that state, which is sooner where no event is lost.
    patience: timedelta
    then_type: str
    then_name: str


_STUCK: Final = (
    _Stuck(
        name="Pending",
        tags=["noa", "noa-recovery"],
        patience=timedelta(minutes=11),
        then_type="SCHEDULED",
        then_name="Scheduled",
    ),
    _Stuck(
        name="Cancelling",
        tags=["noa", "noa-recovery"],
        patience=timedelta(minutes=3),
        then_type="CANCELLED",
        then_name="Cancelled",
    ),
    _Stuck(
        name="Running",
        tags=["heartbeat:30s"],
        patience=timedelta(minutes=5),
        then_type="CRASHED",
        then_name="Crashed",
    ),
)


async def release_the_stuck(api: PrefectApi, *, now: datetime) -> None:
    """Let runs out of the states that a dead worker has left them in.

    Automations do so sooner; but they live on events, and a server that dies takes some with it.
    """
    for stuck in _STUCK:
        wanted = {"tags": {"any_": stuck.tags}, "state": {"name": {"any_": [stuck.name]}}}
        for run in [run async for run in api.find_all_runs(wanted)]:
            since = datetime.fromisoformat(run["state"]["timestamp"])
            if stuck.name == "Running":
                beat = await api.last_event(HEARTBEAT, f"prefect.flow-run.{run['id']}")
                since = max(since, datetime.fromisoformat(beat["occurred"]) if beat else since)
            if now - since > stuck.patience:
                message = f"{stuck.name} and silent for {now - since}; its worker is gone."
                await api.force_state(
                    run["id"],
                    state_type=stuck.then_type,
                    name=stuck.then_name,
                    message=message,
                )


async def _is_our_turn(api: PrefectApi) -> bool:
    """Wait for a recovery that is at work, and leave it all to one that is waiting already.

    Two at a time would dead-letter the same message. The one that waits looks for crashed runs
    later than now, so that it finds all that this one would.
    """
    own = flow_run.get_id()
    if own is None:
        return True  # called as a function
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while older := await _older_recoveries(api, own):
            if len(older) > 1:
                return False
            await asyncio.sleep(_LOOK_SECONDS)
    return True


async def _older_recoveries(api: PrefectApi, own: str) -> Sequence[str]:
    (this,) = await api.filter_runs({"id": {"any_": [own]}})
    running = await api.filter_runs(
        {
            "deployment_id": {"any_": [this["deployment_id"]]},
            "state": {"type": {"any_": ["RUNNING"]}},
        }
    )
    began = (this["start_time"], this["id"])
    return [run["id"] for run in running if (run["start_time"], run["id"]) < began]


async def _crashed_runs(api: PrefectApi) -> Sequence[Mapping[str, Any]]:
    wanted = {
        "tags": {"all_": ["noa"]},
        "state": {"name": {"any_": ["Crashed"]}},
        "expected_start_time": {"after_": (utc_now() - _LOOKS_BACK).isoformat()},
    }
    return [run async for run in api.find_all_runs(wanted) if run["deployment_id"] is not None]


async def _recover(api: PrefectApi, run: Mapping[str, Any], settings: Settings) -> Fate | None:
    """Deal with one run; None where it is nobody's job, or not crashed any more."""
    job = _job_of(run)
    if job is None:
        return None
    states = await api.read_states(run["id"])
    # The history is in the order in which states were asked for, not that in which they held.
    (now,) = await api.filter_runs({"id": {"any_": [run["id"]]}})
    if now["state_name"] != "Crashed":
        return None
    deaths, limit = interruptions(states), settings.workers.max_interruptions
    if deaths <= limit and not (job.interrupted == "dead" and has_begun(states)):
        message = f"Interrupted; executed again ({deaths} of {limit})."
        at = utc_now() + _PAUSE * 2 ** (deaths - 1)
        return Fate.RERUN if await api.schedule_again(run["id"], at=at, message=message) else None
    fate = Fate.DEAD if await _bury(run, job, settings) else Fate.GIVEN_UP
    reason = f"{deaths} times" if deaths > 1 else "and its job must not begin twice"
    message = f"Interrupted {reason}; {fate}."
    await api.force_state(run["id"], state_type="CRASHED", name=INTERRUPTED, message=message)
    return fate


def interruptions(states: Sequence[Mapping[str, Any]]) -> int:
    """Count how often a run has crashed; several may notice the same death."""
    kinds = ["", *(state["type"] for state in states)]
    return sum(after == "CRASHED" != before for before, after in pairwise(kinds))


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
