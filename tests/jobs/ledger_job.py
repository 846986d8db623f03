"""A job whose only effect can be counted: one line in a ledger for each execution."""

import json
import os
import time
from pathlib import Path

from pydantic import Field

from noa_flows.job import job
from noa_flows.job_run import JobRun
from noa_flows.payload import Payload, Result
from tests.jobs.append_line import append_line


class LedgerPayload(Payload):
    path: Path = Field(description="The ledger; made where it is missing.")
    entry: int = Field(description="What is entered: the number of the message.")


class LedgerResult(Result):
    delivery_id: str


@job("ledger")
async def ledger(payload: LedgerPayload, run: JobRun) -> LedgerResult:
    """Enter in the ledger who did which delivery, and when."""
    line = {
        "delivery": run.delivery_id,
        "run": run.run_id,
        "entry": payload.entry,
        "attempt": run.attempt,
        "pid": os.getpid(),
        "at": time.time(),
    }
    append_line(payload.path, json.dumps(line))
    return LedgerResult(delivery_id=run.delivery_id)
