"""`noa check`: is everything there that a message needs to become a run?"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated

import typer

from blocks.errors import BrokerError
from blocks.providers import load_broker
from noa_flows.cli.options import DEFAULT_QUEUE, BrokerOption, QueueOption
from noa_flows.errors import NoaError
from noa_flows.jobs import find_job, job_locations
from noa_flows.prefect_api import connect_to_prefect
from noa_flows.settings import load_settings

Check = Callable[[], Awaitable[str]]


def check(
    *,
    broker: BrokerOption = "",
    queue: QueueOption = DEFAULT_QUEUE,
    jobs: Annotated[
        list[str] | None, typer.Option("--job", help="Only these job types' deployments.")
    ] = None,
) -> None:
    """Check configuration, jobs, broker, Prefect and deployments; exit code 1 if one fails."""
    if not asyncio.run(_all_pass(broker, queue, jobs)):
        raise typer.Exit(1)


async def _all_pass(broker: str, queue: str, jobs: Sequence[str] | None) -> bool:
    configured = await _run({"configuration": _configuration})
    reached = await _run({"prefect": _prefect})
    if not configured:
        # Which jobs there are, and which broker, only the settings could say.
        return False
    names = jobs or list(job_locations())
    passed = await _run(
        {
            **{f"job {name}": _job(name) for name in names},
            "broker": _broker(broker, queue),
            **{f"deployment {name}/{name}": _deployment(f"{name}/{name}") for name in names},
        }
    )
    return reached and passed


async def _run(checks: Mapping[str, Check]) -> bool:
    """Run the checks one after another, print a line for each, and say whether all have passed."""
    passed = True
    for name, one in checks.items():
        try:
            typer.echo(f"ok      {name}: {await one()}")
        except (NoaError, BrokerError) as error:
            passed = False
            typer.echo(f"FAILED  {name}: {error}")
    return passed


async def _configuration() -> str:
    settings = load_settings()
    return f"provider {settings.provider.type}"


def _job(name: str) -> Check:
    async def one() -> str:
        return f"{find_job(name).payload_model.__name__}"

    return one


def _broker(reference: str, queue: str) -> Check:
    async def one() -> str:
        broker = await load_broker(reference or load_settings().provider.url)
        async with broker.connect() as session:
            depth = await session.depth(queue)
        return (
            f"{broker.address}, queue {queue}: {depth.ready} ready, {depth.in_flight} in flight, "
            f"{depth.delayed} delayed, {depth.dead} dead"
        )

    return one


async def _prefect() -> str:
    from prefect.settings import get_current_settings

    async with connect_to_prefect() as api:
        await api.check_health()
    return str(get_current_settings().api.url or "an API server of its own")


def _deployment(name: str) -> Check:
    async def one() -> str:
        async with connect_to_prefect() as api:
            found = await api.read_deployment(name)
        return f"work pool {found.work_pool}" if found.work_pool else "no work pool"

    return one
