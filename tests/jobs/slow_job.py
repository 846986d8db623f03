"""A job that takes its time, so that a test can kill it in the middle."""

import asyncio
import os
from pathlib import Path

from pydantic import Field

from noa_flows.job import job
from noa_flows.job_run import JobRun
from noa_flows.payload import Payload, Result


class SlowPayload(Payload):
    seconds: float = Field(description="How long it takes.")
    pid_file: Path = Field(description="Where it writes its process id when it begins.")


class SlowResult(Result):
    delivery_id: str


@job("slow")
async def slow(payload: SlowPayload, run: JobRun) -> SlowResult:
    """Say who does the work, then take time."""
    payload.pid_file.write_text(str(os.getpid()))
    await asyncio.sleep(payload.seconds)
    return SlowResult(delivery_id=run.delivery_id)
