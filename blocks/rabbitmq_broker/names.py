"""Names: what a queue is made of in RabbitMQ, and which names can be held."""

from typing import Final

from blocks.errors import QueueNameError

#: Delayed messages begin here, one exchange a step; see `delay_ladder`.
DELAY_EXCHANGE: Final = "noa.delay"
#: Where they come out again.
DUE_EXCHANGE: Final = "noa.due"

# AMQP takes 255 bytes; ".delay.1677721600" and the steps of a routing key have to fit in as well.
_LONGEST_QUEUE: Final = 200
_LONGEST_TOPIC: Final = 255
_WILDCARDS: Final = frozenset({"*", "#"})
_SUFFIXES: Final = (".dead", ".dead.lock")


def dead_queue(queue: str) -> str:
    """The queue that keeps the dead letters."""
    return f"{queue}.dead"


def dead_lock(queue: str) -> str:
    """The exclusive queue that whoever looks at the dead letters holds meanwhile."""
    return f"{queue}.dead.lock"


def delay_queue(queue: str, step_milliseconds: int) -> str:
    """The queue in which messages wait for one step of a delay."""
    return f"{queue}.delay.{step_milliseconds}"


def check_queue(queue: str) -> str:
    """Return the name of a queue.

    Raises:
        QueueNameError: It is empty, too long, unprintable, or another queue's.
    """
    _check(queue, "queue name", _LONGEST_QUEUE)
    if queue.startswith("amq."):
        raise QueueNameError(
            f"the queue name {queue!r} begins with `amq.`, which is RabbitMQ's own"
        )
    if queue.endswith(_SUFFIXES) or ".delay." in queue:
        raise QueueNameError(
            f"the queue name {queue!r} is that of another queue's dead or delayed messages; give a "
            "name that doesn't end in `.dead` nor holds `.delay.`"
        )
    if _WILDCARDS & set(queue.split(".")):
        raise QueueNameError(f"the queue name {queue!r} has a wildcard for a word; leave it out")
    return queue


def check_pattern(topic: str) -> str:
    """Return a topic, or a pattern of topics, as it may be subscribed to.

    Raises:
        QueueNameError: It is empty, too long or unprintable.
    """
    _check(topic, "topic", _LONGEST_TOPIC)
    return topic


def check_topic(topic: str) -> str:
    """Return a topic as it may be published to.

    Raises:
        QueueNameError: It is empty, too long, unprintable, or a pattern.
    """
    check_pattern(topic)
    if _WILDCARDS & set(topic.split(".")):
        raise QueueNameError(f"the topic {topic!r} is a pattern; broadcast to a topic")
    return topic


def _check(name: str, what: str, longest: int) -> None:
    size = len(name.encode(errors="replace"))
    if not name or size > longest:
        raise QueueNameError(f"the {what} has {size} bytes; give 1 to {longest}")
    if not name.isprintable():
        raise QueueNameError(f"the {what} {name!r} has unprintable characters; leave them out")
