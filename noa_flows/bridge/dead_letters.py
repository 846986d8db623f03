"""Dead letters: list, show, redrive and discard, alike on every provider."""

import sys
from collections.abc import AsyncIterator, Collection, Sequence

from blocks.broker import Session
from blocks.message import DeadLetter, Message
from noa_flows.bridge.intake import INTERRUPTED_HEADER
from noa_flows.envelope import Origin, decode
from noa_flows.errors import MessageError, NotFoundError
from noa_flows.strict_json import JsonLimits


class DeadLetters:
    """The dead letters of one queue."""

    def __init__(self, session: Session, queue: str) -> None:
        self._session = session
        self._queue = queue

    async def list(
        self, *, reason: str | None = None, limit: int | None = None
    ) -> AsyncIterator[DeadLetter]:
        """Walk over the dead letters, oldest first; of one reason where it is given."""
        left = limit
        async for letter in self._session.browse_dead(self._queue):
            if left == 0:
                return
            if reason in {None, letter.reason}:
                yield letter
                left = None if left is None else left - 1

    async def find(self, message_id: str) -> DeadLetter:
        """Return the dead letter of a message, by the event's id or by the broker's.

        Raises:
            NotFoundError: There is none.
        """
        async for letter in self._session.browse_dead(self._queue):
            if message_id in {letter.id, letter.handle, event_id(letter)}:
                return letter
        raise NotFoundError(
            f"no dead letter {message_id!r} in the queue {self._queue!r}; "
            "`noa dead list` shows those there are"
        )

    async def redrive(self, letters: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
        """Publish dead letters again, and return those that were still there.

        The generation is raised, so that a new run is made instead of the old one being found. The
        delivery count starts anew.
        """
        return await self._settle({letter.handle: _again(letter) for letter in letters}, letters)

    async def discard(self, letters: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
        """Forget dead letters for good, and return those that were still there."""
        return await self._settle({letter.handle: None for letter in letters}, letters)

    async def _settle(
        self, fates: dict[str, Message | None], letters: Sequence[DeadLetter]
    ) -> Sequence[DeadLetter]:
        settled = set(await self._session.settle_dead(self._queue, fates))
        return [letter for letter in letters if letter.handle in settled]


async def dead_runs(session: Session, queue: str, runs: Collection[str]) -> set[str]:
    """Return those of the flow runs that a dead letter names already."""
    return {letter.run_id async for letter in session.browse_dead(queue) if letter.run_id in runs}


def event_id(letter: DeadLetter) -> str:
    """The id of the event in a dead letter; the broker's where it holds none that can be read."""
    limits = JsonLimits(max_body_bytes=len(letter.body), max_nesting=sys.maxsize)
    origin = Origin(id=letter.id, source=letter.queue)
    try:
        return decode(letter.body, letter.headers, origin=origin, limits=limits).id
    except MessageError:
        return letter.id


def _again(letter: DeadLetter) -> Message:
    headers = {name: text for name, text in letter.headers.items() if name != INTERRUPTED_HEADER}
    return Message(
        body=letter.body,
        headers=headers,
        key=letter.key,
        priority=letter.priority,
        id=letter.id,
        generation=letter.generation + 1,
    )
