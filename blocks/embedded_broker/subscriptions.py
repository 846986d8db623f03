"""Which queues have subscribed to which topics."""

import sqlite3

from blocks.embedded_broker import sql
from blocks.embedded_broker.rows import check_name
from blocks.embedded_broker.topic_pattern import TopicPattern
from blocks.errors import QueueNameError


class Subscriptions:
    """The table of them; every call belongs into a transaction of the caller's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def add(self, topic: str, queue: int) -> None:
        """Subscribe a queue to a topic or a pattern, unless it has done so before."""
        values = (topic, queue, TopicPattern(topic).has_wildcards)
        self._execute(sql.SUBSCRIBE, values)

    def queues_of(self, topic: str) -> set[int]:
        """The queues that get a copy, each once, however many of its patterns match."""
        exact = {row[0] for row in self._execute(sql.SUBSCRIBERS, (topic,))}
        patterns = self._execute(sql.PATTERNS)
        return exact | {queue for text, queue in patterns if TopicPattern(text).matches(topic)}


def check_subscription(topic: str) -> None:
    """Refuse what can't name a topic or a pattern of topics.

    Raises:
        QueueNameError: Empty, too long, or with blanks or unprintable characters.
    """
    check_name(topic, "topic")


def check_topic(topic: str) -> None:
    """Refuse what can't name one topic.

    Raises:
        QueueNameError: Like `check_subscription`, or a word of it is a wildcard.
    """
    check_subscription(topic)
    if TopicPattern(topic).has_wildcards:
        raise QueueNameError(f"{topic!r} is a pattern; give the one topic to broadcast to")
