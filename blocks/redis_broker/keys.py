"""The keys of queues and topics in Redis, and the three bands that ten priorities fall into."""

from dataclasses import dataclass
from typing import Final

from blocks.errors import QueueNameError, UnsupportedError
from blocks.message import Band, band_of

HIGH: Final = 1
NORMAL: Final = 2
LOW: Final = 3
#: The priority of an entry that names none; `settle.lua` knows the same ones.
DEFAULT_PRIORITIES: Final = {HIGH: 1, NORMAL: 4, LOW: 8}

_SUFFIXES: Final = (":high", ":low", ":delayed", ":dead", ":topics", ":rate", ":topic")
_LONGEST_NAME: Final = 255
_NUMBERS: Final = {Band.HIGH: HIGH, Band.NORMAL: NORMAL, Band.LOW: LOW}


@dataclass(frozen=True, slots=True)
class Keys:
    """What a queue is made of: three streams of messages, one of dead letters, and what is beside.

    That is the sorted set of delayed messages, the set of topics, and the rate limit's clock.

    On a Redis Cluster all of them must lie in one slot, which a queue name in braces, `{orders}`,
    sees to.
    """

    queue: str

    @property
    def bands(self) -> tuple[str, str, str]:
        """The streams of ready messages, highest priorities first."""
        return f"{self.queue}:high", self.queue, f"{self.queue}:low"

    @property
    def dead(self) -> str:
        """The stream of dead letters."""
        return f"{self.queue}:dead"

    @property
    def all(self) -> tuple[str, ...]:
        """In the order that every script counts on."""
        beside = (f"{self.queue}:topics", f"{self.queue}:rate")
        return *self.bands, f"{self.queue}:delayed", self.dead, *beside


@dataclass(frozen=True, slots=True)
class TopicKeys:
    """What a topic is made of: one stream, to which anybody may add entries."""

    topic: str

    @property
    def all(self) -> tuple[str, ...]:
        """The stream alone; `topics.lua` names it likewise."""
        return (f"{self.topic}:topic",)


def keys_of(queue: str) -> Keys:
    """Find the keys of a queue.

    Raises:
        QueueNameError: The name is empty, too long, unprintable, or another queue's key.
    """
    _check(queue, "queue")
    if queue.endswith(_SUFFIXES):
        raise QueueNameError(
            f"the queue name {queue!r} is a key of the queue {queue.rpartition(':')[0]!r}; "
            f"give a name that doesn't end in {', '.join(_SUFFIXES)}"
        )
    return Keys(queue)


def keys_of_topic(topic: str) -> TopicKeys:
    """Find the key of a topic.

    Raises:
        QueueNameError: The name is empty, too long or unprintable.
        UnsupportedError: It is a pattern: there is no list of topics to match with it.
    """
    _check(topic, "topic")
    if {"*", "#"}.intersection(topic.split(".")):
        raise UnsupportedError(
            f"{topic!r} is a pattern, and Redis has none for topics; name each topic"
        )
    return TopicKeys(topic)


def _check(name: str, what: str) -> None:
    if not name or len(name) > _LONGEST_NAME:
        raise QueueNameError(
            f"the {what} name has {len(name)} characters; give 1 to {_LONGEST_NAME}"
        )
    if not name.isprintable():
        raise QueueNameError(f"the {what} name {name!r} has unprintable characters; leave them out")


def number_of(band: Band) -> int:
    """The number of a band, as scripts count them: from 1, the highest."""
    return _NUMBERS[band]


def band_number(priority: int) -> int:
    """The number of a priority's band."""
    return number_of(band_of(priority))
