"""A queue's topics in Kafka, its consumer group, and what a pattern of topics matches."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from blocks.errors import QueueNameError

#: How long a message stays in a retry topic, by the end of the topic's name.
STEPS: Final[Mapping[str, timedelta]] = {
    "10s": timedelta(seconds=10),
    "1m": timedelta(minutes=1),
    "10m": timedelta(minutes=10),
    "1h": timedelta(hours=1),
}
_HELD: Final = ".held"
_DEAD: Final = ".dlt"
_RETRY: Final = ".retry."
_INTERNAL: Final = re.compile(r"^__|\.held$|\.dlt$|\.retry\.[^.]+$")
#: https://github.com/apache/kafka: org.apache.kafka.common.internals.Topic
_LEGAL: Final = re.compile(r"[a-zA-Z0-9._-]+")
_LONGEST_TOPIC: Final = 249
_LONGEST_QUEUE: Final = _LONGEST_TOPIC - len(".retry.10s")


@dataclass(frozen=True, slots=True)
class QueueTopics:
    """What a queue is made of; messages are published to the topic of its own name."""

    queue: str

    @property
    def held(self) -> str:
        """The topic of messages that are held by sessions without their partitions."""
        return f"{self.queue}{_HELD}"

    @property
    def dead(self) -> str:
        """The topic of dead letters."""
        return f"{self.queue}{_DEAD}"

    @property
    def retries(self) -> Mapping[str, timedelta]:
        """The topics of delayed messages, shortest stay first."""
        return {f"{self.queue}{_RETRY}{name}": stay for name, stay in STEPS.items()}

    @property
    def consumed(self) -> tuple[str, ...]:
        """All that a consumer of the queue reads."""
        return self.queue, self.held, *self.retries

    def retry_for(self, delay: timedelta) -> str:
        """The retry topic for a delay: the shortest stay that is long enough, or the longest."""
        retries = self.retries
        return next((name for name, stay in retries.items() if delay <= stay), [*retries][-1])


def topics_of(queue: str) -> QueueTopics:
    """Find the topics of a queue.

    Raises:
        QueueNameError: Kafka can't hold a topic of that name, or it is a part of another queue.
    """
    _check(queue, "queue", _LONGEST_QUEUE)
    if _INTERNAL.search(queue):
        raise QueueNameError(
            f"the queue name {queue!r} is that of a topic which belongs to a queue or to Kafka; "
            f"give one that doesn't end in {_DEAD}, {_HELD} or {_RETRY}…, nor begin with __"
        )
    return QueueTopics(queue)


def check_topic(topic: str) -> None:
    """Check the name of a topic to broadcast to.

    Raises:
        QueueNameError: Kafka can't hold a topic of that name.
    """
    _check(topic, "topic", _LONGEST_TOPIC)


def is_pattern(topic: str) -> bool:
    """Whether it stands for more than one topic."""
    return any(word in ("*", "#") for word in topic.split("."))


def pattern_of(topic: str) -> re.Pattern[str]:
    """What a pattern matches: `*` stands for one word between dots, `#` for any number.

    Raises:
        QueueNameError: A part that is no wildcard can't stand in the name of a topic.
    """
    words = topic.split(".")
    _check(".".join(word for word in words if word not in ("*", "#")) or "x", "topic")
    pattern = ""
    for place, word in enumerate(words):
        # A `#` brings its own dots, so that no words at all leave none behind.
        if word == "#":
            pattern += r"(?:[^.]+\.)*" if place == 0 else r"(?:\.[^.]+)*"
            continue
        dot = "" if place == 0 or words[:place] == ["#"] else r"\."
        pattern += dot + (r"[^.]+" if word == "*" else re.escape(word))
    return re.compile(".+" if set(words) == {"#"} else pattern)


def is_internal(topic: str) -> bool:
    """Whether a topic belongs to Kafka, or to the inner works of a queue."""
    return _INTERNAL.search(topic) is not None


def group_of(group: str, queue: str) -> str:
    """The consumer group of a queue."""
    return f"{group}.{queue}"


def _check(name: str, kind: str, longest: int = _LONGEST_TOPIC) -> None:
    if not 0 < len(name) <= longest:
        raise QueueNameError(f"the {kind} name has {len(name)} characters; give 1 to {longest}")
    if not _LEGAL.fullmatch(name) or name in (".", ".."):
        raise QueueNameError(
            f"the {kind} name {name!r} can't be a topic's; give letters of ASCII, digits, "
            "dots, hyphens and underscores"
        )
