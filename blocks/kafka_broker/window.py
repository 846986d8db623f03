"""What of a partition has been settled, out of order, as it is kept in the commit's metadata.

A group commits one offset a partition: everything below is settled. What was settled above it, and
how often the rest was handed out, stands in the text that Kafka keeps beside the offset; so an heir
of the partition passes over what was settled, and counts deliveries on where they were.

The text is `1:` and Base64 of runs from the committed offset upwards. A run is two numbers, each as
a variable-length integer of 7 bits a byte: a state (0 for settled, n + 1 for handed out n times),
and how many offsets have it.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

#: Offsets from the committed one up to the last that may be handed out. Even when each one differs
#: from its neighbours, the text fits the 4,096 bytes of `offset.metadata.max.bytes`.
MAX_SPAN: Final = 1_000

_VERSION: Final = "1:"
_SETTLED: Final = 0
_UNTOUCHED: Final = 1
_MAX_COUNT: Final = 10_000

Runs = Iterable[tuple[int, int]]


class Window:
    """The offsets of one partition that this consumer has seen, and what became of them."""

    def __init__(self, start: int, metadata: str = "") -> None:
        #: Where to read on.
        self.end = start
        self._start = start
        self._order: deque[int] = deque()
        self._open: set[int] = set()
        self._counts: dict[int, int] = {}
        #: Settled above the committed offset by a predecessor.
        self._before: set[int] = set()
        for offset, state in _expand(start, decode_runs(metadata)):
            if state == _SETTLED:
                self._before.add(offset)
            elif state > _UNTOUCHED:
                self._counts[offset] = state - 1
        #: Whether there is something to commit.
        self.dirty = False

    @property
    def prefix(self) -> int:
        """The offset to commit: everything below is settled."""
        while self._order and self._order[0] not in self._open:
            self._order.popleft()
        return self._order[0] if self._order else self.end

    def admit(self, offset: int) -> bool:
        """Note that a message was read; False when a predecessor has settled it."""
        self.reach(offset + 1)
        if offset in self._before:
            self._before.discard(offset)
            return False
        self._order.append(offset)
        self._open.add(offset)
        return True

    def reach(self, end: int) -> None:
        """Note that there is nothing more below `end`, markers of transactions included."""
        if end > self.end:
            # With everything settled it is the offset to commit.
            self.dirty = self.dirty or not self._open
            self.end = end

    def has_room_for(self, offset: int) -> bool:
        """Whether the offset is near enough to the committed one to be handed out."""
        return offset - self.prefix < MAX_SPAN

    def count(self, offset: int) -> int:
        """How often it has been handed out."""
        return self._counts.get(offset, 0)

    def hand_out(self, offset: int) -> int:
        """Count a delivery, and return which one it is."""
        self.dirty = True
        count = self._counts[offset] = min(self.count(offset) + 1, _MAX_COUNT)
        return count

    def take_back(self, offset: int) -> None:
        """Don't count the last delivery."""
        self.dirty = True
        if self.count(offset) > 1:
            self._counts[offset] -= 1
        else:
            self._counts.pop(offset, None)

    def settle(self, offset: int) -> int:
        """Be done with an offset; return how often it was handed out, for `reopen`."""
        self.dirty = True
        self._open.discard(offset)
        return self._counts.pop(offset, 0)

    def reopen(self, offset: int, count: int) -> None:
        """Undo `settle`, before anything was committed."""
        self.dirty = True
        self._open.add(offset)
        if count:
            self._counts[offset] = count
        if not self._order or offset < self._order[0]:
            self._order.appendleft(offset)
        elif offset not in self._order:
            self._order = deque(sorted((*self._order, offset)))

    def is_settled(self, offset: int) -> bool:
        """Whether a predecessor has settled it, or this consumer."""
        return offset in self._before or (offset < self.end and offset not in self._open)

    def snapshot(self) -> tuple[int, str]:
        """Offset and metadata to commit."""
        prefix = self.prefix
        if len(self._open) == len(self._order) and not self._counts and not self._before:
            return prefix, ""
        return prefix, encode_runs(self._runs(prefix))

    def _runs(self, prefix: int) -> Iterator[tuple[int, int]]:
        at = prefix
        known = [(one, self._counts.get(one, 0) + 1) for one in self._open]
        known += [(one, count + 1) for one, count in self._counts.items() if one >= self.end]
        known += [(one, _SETTLED) for one in self._before if one >= self.end]
        for offset, state in sorted(known):
            # What was seen and is no longer open is settled, or never was a message.
            yield _SETTLED, min(offset, self.end) - at
            at = max(at, min(offset, self.end))
            yield _UNTOUCHED, offset - at
            yield state, 1
            at = offset + 1
        yield _SETTLED, self.end - at


def encode_runs(runs: Runs) -> str:
    """Write runs; what was never touched at the end is left out."""
    merged = [
        (state, sum(length for _, length in group))
        for state, group in groupby((run for run in runs if run[1] > 0), key=lambda run: run[0])
    ]
    if merged and merged[-1][0] == _UNTOUCHED:
        merged.pop()
    if not merged:
        return ""
    data = b"".join(_varint(state) + _varint(length) for state, length in merged)
    return _VERSION + b64encode(data).decode()


def decode_runs(metadata: str) -> list[tuple[int, int]]:
    """Read runs; none where the text is somebody else's."""
    if not metadata.startswith(_VERSION):
        return []
    try:
        numbers = list(_numbers(b64decode(metadata.removeprefix(_VERSION), validate=True)))
        return list(zip(numbers[::2], numbers[1::2], strict=True))
    except (Base64Error, ValueError):
        return []


def _expand(start: int, runs: Runs) -> Iterator[tuple[int, int]]:
    limit = start + 2 * MAX_SPAN
    for state, length in runs:
        for offset in range(start, min(start + length, limit)):
            yield offset, state
        start += length


def _varint(number: int) -> bytes:
    data = bytearray()
    while number > 0x7F:  # noqa: PLR2004
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def _numbers(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004
            yield number
            number = shift = 0
    if shift:
        raise ValueError("cut off in the middle of a number")
