"""The program that chaos kills: consumers, and a supervisor that replaces each that dies.

    python -m tests.chaos.consumer_process <an Assignment as JSON>

The supervisor has imported everything before it forks, so that a consumer's successor is there in
milliseconds. It opens no connection itself. After each death it draws whether one consumer shall
work, or two side by side.
"""

import asyncio
import logging
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Final, cast

from pydantic import BaseModel, ConfigDict

from blocks.broker import Session
from blocks.errors import BrokerError
from blocks.providers import SCHEMES, broker_class, load_broker
from noa_flows.bridge.assembly import open_bridge
from noa_flows.bridge.route import Route
from noa_flows.errors import NoaError
from noa_flows.jobs import find_job
from noa_flows.prefect_api import connect_to_prefect
from noa_flows.settings import get_settings
from tests.chaos.journal import Journal
from tests.chaos.watched_session import WatchedSession

READY: Final = "Consumers are at work"
_PAUSE_SECONDS: Final = 0.2
_LOGGER: Final = logging.getLogger("chaos.consumer")


class Assignment(BaseModel):
    """What the consumers consume."""

    model_config = ConfigDict(frozen=True)

    #: The broker's URL.
    broker: str
    lease_seconds: float
    queue: str
    jobs: frozenset[str]
    journal: Path
    #: Of the draws between one consumer and two.
    seed: int


def main() -> None:
    """Keep one or two consumers at work, until a consumer ends by itself."""
    logging.basicConfig(format="%(asctime)s %(process)d %(levelname)s %(message)s")
    _LOGGER.setLevel(logging.INFO)
    assignment = Assignment.model_validate_json(sys.argv[1])
    _import_everything(assignment)
    numbers, living = Random(assignment.seed), set[int]()
    while True:
        wanted = numbers.choice((1, 2, 2))
        while len(living) < wanted:
            living.add(_fork(assignment))
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
        pid, status = os.wait()
        living.discard(pid)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            sys.exit(f"consumer {pid} was not killed, but ended by itself")


def _import_everything(assignment: Assignment) -> None:
    for job in assignment.jobs:
        find_job(job)
    for slug in set(SCHEMES.values()):
        broker_class(slug)
    import_module("redis.asyncio")  # which its block imports when it connects


def _fork(assignment: Assignment) -> int:
    pid = os.fork()
    if pid == 0:
        asyncio.run(_consume_for_ever(assignment))
    return pid


async def _consume_for_ever(assignment: Assignment) -> None:
    while True:
        try:
            await _consume(assignment)
        except (NoaError, BrokerError) as error:
            # As the consumer flow's retries do where Prefect or the broker is away at its start.
            _LOGGER.warning("Starting again: %s", error)
            await asyncio.sleep(_PAUSE_SECONDS)


async def _consume(assignment: Assignment) -> None:
    """Do what the consumer flow does."""
    loaded = await load_broker(assignment.broker)
    broker = loaded.model_copy(update={"lease_seconds": assignment.lease_seconds})
    route = Route(
        name=assignment.queue,
        provider=broker.get_block_type_slug(),
        address=broker.address,
        queue=assignment.queue,
        jobs=assignment.jobs,
    )
    async with connect_to_prefect() as api, broker.connect() as session:
        watched = WatchedSession(session, Journal(assignment.journal))
        async with open_bridge(
            api=api,
            broker=broker,
            session=cast("Session", watched),
            route=route,
            settings=get_settings(),
            logger=_LOGGER,
        ) as bridge:
            await bridge.run()


if __name__ == "__main__":
    main()
