"""Two jobs that are killed in the middle: one is executed again then, the other is not."""

import asyncio
import os
import signal
import time
from pathlib import Path

from pydantic import Field

from noa_flows.job import job
from noa_flows.job_run import JobRun
from noa_flows.payload import Payload, Result
from tests.jobs.append_line import append_line

_STEP_SECONDS = 0.05


class StruckPayload(Payload):
    path: Path = Field(description="The ledger; made where it is missing.")
    seconds: float = Field(description="How long it takes.")
    mebibytes: int = Field(default=0, description="Memory that is kept meanwhile.")
    deaf: bool = Field(default=False, description="Whether SIGTERM is ignored.")


class StruckResult(Result):
    delivery_id: str


@job("struck-rerun", interrupted="rerun")
async def struck_rerun(payload: StruckPayload, run: JobRun) -> StruckResult:
    """Work between two lines in the ledger; may be executed again."""
    return await _work(payload, run)


@job("struck-dead", interrupted="dead")
async def struck_dead(payload: StruckPayload, run: JobRun) -> StruckResult:
    """Work between two lines in the ledger; must not be executed again."""
    return await _work(payload, run)


async def _work(payload: StruckPayload, run: JobRun) -> StruckResult:
    if payload.deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _enter("begin", payload, run)
    hoard = [bytearray(os.urandom(2**20)) for _ in range(payload.mebibytes)]
    for _ in range(round(payload.seconds / _STEP_SECONDS)):
        await asyncio.sleep(_STEP_SECONDS)
    _enter("end", payload, run)
    del hoard
    return StruckResult(delivery_id=run.delivery_id)


def _enter(what: str, payload: StruckPayload, run: JobRun) -> None:
    line = f"{what} {run.delivery_id} {run.run_id} {os.getpid()} {time.time()}"
    append_line(payload.path, line)
