"""The job that does nothing: for trying a route, and for measuring what a run costs."""

from pydantic import Field, JsonValue

from noa_flows.job import job
from noa_flows.job_run import JobRun
from noa_flows.payload import Payload, Result


class NoopPayload(Payload):
    """Anything at all, to be handed back."""

    echo: JsonValue = Field(default=None, description="Any value; the result holds it again.")


class NoopResult(Result):
    """What was sent."""

    delivery_id: str
    echo: JsonValue


@job("noop")
async def noop(payload: NoopPayload, run: JobRun) -> NoopResult:
    """Do nothing, and hand the payload back."""
    return NoopResult(delivery_id=run.delivery_id, echo=payload.echo)
