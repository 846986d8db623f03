"""What a consumer holds: it renews the leases while it works, and knows which it has lost."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from typing import Any

from blocks.broker import Session
from blocks.errors import BrokerError
from blocks.message import Delivery

Logger = logging.Logger | logging.LoggerAdapter[Any]


class Held:
    """The deliveries that one consumer works on."""

    def __init__(self, session: Session, *, lease: timedelta, logger: Logger) -> None:
        self._session = session
        self._interval = lease / 3
        self._logger = logger
        self._deliveries: dict[int, Delivery] = {}

    @contextmanager
    def holding(self, deliveries: Sequence[Delivery]) -> Generator[None]:
        """Keep the leases of these alive while the block runs."""
        self._deliveries.update({id(one): one for one in deliveries})
        try:
            yield
        finally:
            for one in deliveries:
                self._deliveries.pop(id(one), None)

    def has(self, delivery: Delivery) -> bool:
        """Whether the delivery's lease has not been lost."""
        return id(delivery) in self._deliveries

    @asynccontextmanager
    async def renewing(self) -> AsyncGenerator[None]:
        """Renew all leases three times a lease while the block runs."""
        task = asyncio.create_task(self._renew_for_ever(), name="renew-leases")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._interval.total_seconds())
            asked = list(self._deliveries.values())
            if not asked:
                continue
            try:
                kept = {id(one) for one in await self._session.renew(asked)}
            except BrokerError as error:
                self._logger.warning("Leases were not renewed: %s", error)
                continue
            for one in asked:
                if id(one) not in kept:
                    self._deliveries.pop(id(one), None)
