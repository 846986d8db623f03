"""A producer that doesn't give up."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from blocks.broker import Session
from blocks.message import Message
from tests.waiting import eventually


class Publisher:
    """Publishes events until the broker has taken each one.

    What may have been taken before an answer was lost is published again, as a producer has to: the
    event's id says that it is the same.
    """

    def __init__(self, session: Session, queue: str) -> None:
        self._session = session
        self._queue = queue
        #: Calls that failed, after which events were published again.
        self.repeated = 0

    async def publish(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Publish all; returns when the broker has said of each that it is on the disk."""
        waiting = [
            Message(body=json.dumps(event).encode(), id=str(event["id"])) for event in events
        ]

        async def all_taken() -> bool:
            self.repeated += 1
            published = await self._session.publish(self._queue, waiting)
            pairs = zip(waiting, published, strict=True)
            waiting[:] = [message for message, outcome in pairs if outcome.error is not None]
            return not waiting

        await eventually(all_taken, description="the broker to take messages", timeout=60)
        self.repeated -= 1
