"""A flow that reports much in little time, up to its last moment."""

from prefect import flow, get_run_logger
from prefect.events import emit_event
from prefect.runtime import flow_run

#: Events of this name are the flow's own.
EVENT = "noa.tests.chatted"


def line_of(run: object, number: int) -> str:
    """What the run says in one line of its log."""
    return f"chat of {run}, line {number}"


@flow
def chatty(lines: int) -> None:
    """Log lines, emit an event before the last, and return right after it."""
    for number in range(lines):
        if number == lines - 1:
            emit_event(EVENT, resource={"prefect.resource.id": f"prefect.flow-run.{flow_run.id}"})
        get_run_logger().info(line_of(flow_run.id, number))
