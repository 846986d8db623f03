"""What queues and topics are called at AWS, where fewer characters are allowed than here."""

import re
from dataclasses import dataclass
from typing import Final

from blocks.errors import QueueNameError, UnsupportedError

_FIFO: Final = ".fifo"
_DEAD: Final = "-dead"
# 80 at SQS, less what a FIFO queue's dead letters append.
_LONGEST_QUEUE: Final = 80 - len(_DEAD + _FIFO)
_LONGEST_TOPIC: Final = 256 - len(_FIFO)
_ALLOWED: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Names:
    """A queue, and the queue of its dead letters."""

    #: As whoever uses the session writes it.
    queue: str
    main: str
    dead: str
    fifo: bool


def names_of(queue: str, *, fifo: bool) -> Names:
    """Find the names of a queue at SQS; `.fifo` may be written or left out.

    Raises:
        QueueNameError: SQS can't hold the name, or it is that of another queue's dead letters.
    """
    base = queue.removesuffix(_FIFO) if fifo else queue
    if queue.endswith(_FIFO) and not fifo:
        raise QueueNameError(
            f"the queue name {queue!r} is that of a FIFO queue; set the block's field `fifo`"
        )
    if not _ALLOWED.fullmatch(base) or len(base) > _LONGEST_QUEUE:
        raise QueueNameError(
            f"the queue name {_shown(queue)} can't be held by SQS; give 1 to {_LONGEST_QUEUE} "
            "letters, digits, hyphens and underscores"
        )
    if base.endswith(_DEAD):
        raise QueueNameError(
            f"the queue name {queue!r} is that of the dead letters of {base[: -len(_DEAD)]!r}; "
            f"give a name that doesn't end in {_DEAD}"
        )
    suffix = _FIFO if fifo else ""
    return Names(queue=queue, main=base + suffix, dead=base + _DEAD + suffix, fifo=fifo)


def topic_name(topic: str, *, fifo: bool) -> str:
    """Find the name of a topic at SNS, which has no dots: `orders.eu` is `orders__eu` there.

    Raises:
        QueueNameError: SNS can't hold the name, or two topics would share it.
    """
    if "*" in topic or "#" in topic:
        # SNS filters by attributes, not by names of topics.
        raise UnsupportedError(
            f"the topic {_shown(topic)} is a pattern, and SNS has none; subscribe to each topic"
        )
    base = topic.removesuffix(_FIFO) if fifo else topic
    name = base.replace(".", "__")
    if not _ALLOWED.fullmatch(name) or len(name) > _LONGEST_TOPIC:
        raise QueueNameError(
            f"the topic {_shown(topic)} can't be held by SNS; give 1 to {_LONGEST_TOPIC} letters, "
            "digits, hyphens, underscores, and dots, which count twice"
        )
    if name.replace("__", ".") != base:
        raise QueueNameError(
            f"the topic {_shown(topic)} could be taken for another: a dot is written as two "
            "underscores at SNS; leave out double underscores, and underscores beside dots"
        )
    return name + (_FIFO if fifo else "")


def _shown(name: str) -> str:
    return ascii(name if len(name) <= _LONGEST_QUEUE else f"{name[:_LONGEST_QUEUE]}…")
