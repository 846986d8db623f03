"""A bridge at work in a test: the embedded broker on one side, a real Prefect on the other."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.broker import Broker, Session
from blocks.embedded_broker import EmbeddedBroker
from blocks.message import Message
from noa_flows.bridge.assembly import open_bridge
from noa_flows.bridge.bridge import Bridge
from noa_flows.bridge.observer import Observer
from noa_flows.bridge.route import Route
from noa_flows.prefect_api import PrefectApi
from noa_flows.settings import Settings

LOGGER = logging.getLogger("noa_flows.tests")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A queue, and the route from it."""

    broker: Broker
    route: Route
    settings: Settings
    max_waiting: int = 10_000

    @classmethod
    def embedded(
        cls, folder: Path, *, queue: str, jobs: frozenset[str], **settings: Any
    ) -> "Bench":
        broker = EmbeddedBroker(path=folder / "queue.db")
        route = Route(
            name=queue,
            provider=broker.get_block_type_slug(),
            address=broker.address,
            queue=queue,
            jobs=jobs,
        )
        return cls(
            broker=broker, route=route, settings=Settings(storage=folder / "storage", **settings)
        )

    @asynccontextmanager
    async def running(
        self, api: PrefectApi, observer: Observer | None = None
    ) -> AsyncGenerator[Bridge]:
        """Run the bridge while the block runs."""
        async with (
            self.broker.connect() as session,
            open_bridge(
                api=api,
                broker=self.broker,
                session=session,
                route=self.route,
                settings=self.settings,
                logger=LOGGER,
                max_waiting=self.max_waiting,
                observer=observer,
            ) as bridge,
        ):
            task = asyncio.create_task(bridge.run())
            try:
                yield bridge
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


async def publish(session: Session, queue: str, *bodies: bytes | Mapping[str, Any]) -> list[str]:
    """Publish bodies, and return their ids."""
    await session.declare(queue)
    messages = [
        Message(body=body if isinstance(body, bytes) else json.dumps(body).encode())
        for body in bodies
    ]
    published = await session.publish(queue, messages)
    assert all(one.error is None for one in published), published
    return [str(one.id) for one in published]


def event(message_id: str, data: Mapping[str, Any] | None = None, **attributes: Any) -> Any:
    """A CloudEvent for the no-op job."""
    return {
        "specversion": "1.0",
        "id": message_id,
        "source": "/tests",
        "type": "noa.job.noop",
        "data": data or {},
        **attributes,
    }
