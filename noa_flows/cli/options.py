"""The options that several commands share."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from blocks.broker import Session
from blocks.providers import load_broker
from noa_flows.settings import get_settings

BrokerOption = Annotated[
    str,
    typer.Option(
        help="A saved block such as redis-broker/prod, or a URL such as redis://localhost:6379. "
        "Without it, the provider of the settings.",
    ),
]
QueueOption = Annotated[str, typer.Option(help="The queue.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

DEFAULT_QUEUE = "jobs"


@asynccontextmanager
async def open_session(reference: str) -> AsyncGenerator[Session]:
    """Connect to the broker that `--broker` names, or to the configured one."""
    broker = await load_broker(reference or get_settings().provider.url)
    async with broker.connect() as session:
        yield session
