"""Publishing: messages in as few scripts as their sizes allow, with an outcome each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from blocks.errors import BrokerError
from blocks.message import Message, Published
from blocks.redis_broker.entry import BATCH_BYTES, encode, milliseconds
from blocks.redis_broker.keys import NORMAL, Keys, TopicKeys, band_number
from blocks.redis_broker.scripts import Script
from blocks.redis_broker.wire import Argument, Wire

# A script holds up everybody else for as long as it runs: some 2 ms with this.
_CHUNK_MESSAGES: Final = 500


@dataclass(frozen=True, slots=True)
class _Target:
    """Where messages go, and how the script takes each of them."""

    wire: Wire
    script: Script
    keys: Keys | TopicKeys
    arguments: Callable[[Message, str], list[Argument]]


@dataclass(slots=True)
class _Chunk:
    """Messages that are added by one script: all of them, or none."""

    #: Place in the batch → id.
    ids: dict[int, str] = field(default_factory=dict[int, str])
    arguments: list[Argument] = field(default_factory=list[Argument])
    size: int = 0

    @property
    def full(self) -> bool:
        return len(self.ids) >= _CHUNK_MESSAGES or self.size >= BATCH_BYTES


async def publish(wire: Wire, keys: Keys, messages: Sequence[Message]) -> list[Published]:
    """Add messages to a queue.

    When the connection breaks while the answer is awaited, the messages may have been added or not;
    who publishes them again gives them ids of his own, so that both carry the same.
    """

    def for_queue(message: Message, message_id: str) -> list[Argument]:
        fields = encode(message, message_id)
        band, delay = band_number(message.priority), milliseconds(message.delay)
        return [band, delay, len(fields), *fields]

    return await _add(_Target(wire, Script.PUBLISH, keys, for_queue), messages)


async def broadcast(wire: Wire, keys: TopicKeys, messages: Sequence[Message]) -> list[Published]:
    """Add messages to a topic, for whoever has subscribed to it; else like `publish`."""

    def for_topic(message: Message, message_id: str) -> list[Argument]:
        fields = encode(message, message_id, band=NORMAL)
        return [milliseconds(message.delay), len(fields), *fields]

    return await _add(_Target(wire, Script.BROADCAST, keys, for_topic), messages)


async def _add(target: _Target, messages: Sequence[Message]) -> list[Published]:
    outcomes: dict[int, Published] = {}
    failure: BrokerError | None = None
    for chunk in _chunks(target, messages, outcomes):
        if failure is None:
            failure = await _try(target, chunk)
        for place, message_id in chunk.ids.items():
            outcomes[place] = Published(error=failure) if failure else Published(id=message_id)
    if failure and not any(outcome.id for outcome in outcomes.values()):
        raise failure
    return [outcomes[place] for place in range(len(messages))]


async def _try(target: _Target, chunk: _Chunk) -> BrokerError | None:
    try:
        await target.wire.run(target.script, target.keys, chunk.arguments)
    except BrokerError as error:
        return error
    return None


def _chunks(
    target: _Target, messages: Sequence[Message], outcomes: dict[int, Published]
) -> Iterator[_Chunk]:
    """Cut a batch; what can't be held gets its outcome at once."""
    chunk = _Chunk()
    for place, message in enumerate(messages):
        message_id = message.id or uuid4().hex
        try:
            chunk.arguments += target.arguments(message, message_id)
        except BrokerError as error:
            outcomes[place] = Published(error=error)
            continue
        chunk.ids[place] = message_id
        chunk.size += len(message.body)
        if chunk.full:
            yield chunk
            chunk = _Chunk()
    if chunk.ids:
        yield chunk
