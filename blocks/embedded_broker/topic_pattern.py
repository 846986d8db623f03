"""Patterns of topics, as AMQP's topic exchanges have them."""

from collections.abc import Iterable
from typing import Final

#: Stands for one word between dots.
ONE: Final = "*"
#: Stands for any number of words, none included.
ANY: Final = "#"


class TopicPattern:
    """What a subscription asks for; a topic without `*` and `#` is one that only matches itself.

    Example:
        >>> TopicPattern("orders.*.#").matches("orders.eu")
        True
    """

    def __init__(self, text: str) -> None:
        self._words = text.split(".")

    @property
    def has_wildcards(self) -> bool:
        """Whether more topics than one may match; a word such as `a*` stands for itself."""
        return ONE in self._words or ANY in self._words

    def matches(self, topic: str) -> bool:
        """Whether the topic is one of those that are asked for; linear in each one's length."""
        reached = self._with_skipped({0})
        for word in topic.split("."):
            reached = self._with_skipped(set(self._after(word, reached)))
        return len(self._words) in reached

    def _after(self, word: str, reached: set[int]) -> Iterable[int]:
        """Places in the pattern that lie behind the word."""
        for place in reached - {len(self._words)}:
            wanted = self._words[place]
            if wanted == ANY:
                yield place
            elif wanted in (ONE, word):
                yield place + 1

    def _with_skipped(self, reached: set[int]) -> set[int]:
        """The places, and those that are reached where `#` stands for no word."""
        for place, wanted in enumerate(self._words):
            if wanted == ANY and place in reached:
                reached.add(place + 1)
        return reached
