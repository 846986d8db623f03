"""A broker's session that keeps a journal."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from blocks.broker import Session
from blocks.message import Band, Delivery, Outcome, Settled
from tests.chaos.journal import Journal


class WatchedSession:
    """Hands every call on, and writes down what was taken and what was settled."""

    def __init__(self, session: Session, journal: Journal) -> None:
        self._session = session
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def receive(
        self, queue: str, *, max_messages: int, wait: timedelta, lowest: Band = Band.LOW
    ) -> Sequence[Delivery]:
        """Note what was taken before the consumer sees it."""
        taken = await self._session.receive(
            queue, max_messages=max_messages, wait=wait, lowest=lowest
        )
        if taken:
            self._journal.took((one.id, one.deliveries) for one in taken)
        return taken

    async def settle(self, outcomes: Sequence[Outcome]) -> Sequence[Settled]:
        """Note what was settled once the broker has said so."""
        settled = await self._session.settle(outcomes)
        if settled:
            self._journal.settled(one.delivery.id for one in settled)
        return settled
