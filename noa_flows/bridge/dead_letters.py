"""Dead letters: list, show, redrive and discard, alike on every provider."""

import asyncio
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from blocks.broker import Session
from blocks.message import DeadLetter, Message
from noa_flows.bridge.intake import INTERRUPTED_HEADER
from noa_flows.envelope import Origin, decode
from noa_flows.errors import MessageError, NotFoundError
from noa_flows.event import Event
from noa_flows.strict_json import JsonLimits


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which dead letters are meant; what is None doesn't matter.

    Example:
        >>> Selection(reason="failed", error_type="PrefectApiError", max_redrives=3)
    """

    reason: str | None = None
    #: The job type, such as `report`; a letter that can't be read has none.
    job_type: str | None = None
    #: The class of the error.
    error_type: str | None = None
    #: Died at this time or later.
    since: datetime | None = None
    #: Died before this time.
    until: datetime | None = None
    #: Redriven fewer times than this: what dies again and again is for a person to look at.
    max_redrives: int | None = None

    def has(self, letter: DeadLetter) -> bool:
        """Whether the letter is one of those."""
        return (
            self.reason in {None, letter.reason}
            and self.error_type in {None, letter.error_type}
            and (self.since is None or letter.died_at >= self.since)
            and (self.until is None or letter.died_at < self.until)
            and (self.max_redrives is None or letter.generation < self.max_redrives)
            and (self.job_type is None or self.job_type == _job_type(letter))
        )


_ALL: Final = Selection()


class DeadLetters:
    """The dead letters of one queue."""

    def __init__(self, session: Session, queue: str) -> None:
        self._session = session
        self._queue = queue

    async def list(
        self, selection: Selection = _ALL, *, limit: int | None = None
    ) -> AsyncIterator[DeadLetter]:
        """Walk over the dead letters that are selected, oldest first."""
        left = limit
        async for letter in self._session.browse_dead(self._queue):
            if left == 0:
                return
            if selection.has(letter):
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

    async def redrive(
        self, letters: Sequence[DeadLetter], *, per_second: float | None = None
    ) -> Sequence[DeadLetter]:
        """Publish dead letters again, and return those that were still there.

        The generation is raised, so that a new run is made instead of the old one being found. The
        delivery count starts anew. With a rate, they go in portions of a tenth of a second, so that
        whoever made them fail isn't overrun by them.
        """
        portion = len(letters) if per_second is None else max(1, int(per_second / 10))
        redriven: list[DeadLetter] = []
        for start in range(0, len(letters), max(1, portion)):
            some = letters[start : start + portion]
            if start and per_second is not None:
                await asyncio.sleep(portion / per_second)
            redriven += await self._settle({one.handle: _again(one) for one in some}, some)
        return redriven

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
    event = _event(letter)
    return event.id if event else letter.id


def _job_type(letter: DeadLetter) -> str | None:
    event = _event(letter)
    return event.job_type if event else None


def _event(letter: DeadLetter) -> Event | None:
    limits = JsonLimits(max_body_bytes=len(letter.body), max_nesting=sys.maxsize)
    origin = Origin(id=letter.id, source=letter.queue)
    try:
        return decode(letter.body, letter.headers, origin=origin, limits=limits)
    except MessageError:
        return None


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
