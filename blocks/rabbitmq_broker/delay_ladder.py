"""Delays: a ladder of queues, each of which holds a message for one step.

A message that waits passes the steps whose sum is its delay, the longest first: 1,200 ms are 800
and 400. Its routing key says which: a word for each step, `1` to wait in it and `0` to pass it, and
the queue's name at the end. For each step there is one topic exchange, such as `noa.delay.800`. It
hands a `1` to the step's queue of that name, `orders.delay.800`, which dead-letters to the exchange
of the next shorter step after 800 ms, and a `0` to that exchange at once. Behind the shortest step
stands `noa.due`, to which each queue is bound. All that waits in a queue has the same time to live,
so nothing waits behind what lives longer, as it would with an expiration per message:
https://www.rabbitmq.com/docs/ttl#per-message-ttl-caveats

The ladder is that of NServiceBus, with queues for each destination, so that they can be counted:
https://docs.particular.net/transports/rabbitmq/delayed-delivery
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from blocks.rabbitmq_broker.names import DELAY_EXCHANGE, DUE_EXCHANGE

_SHORTEST: Final = 100
_STEPS: Final = 25
#: Milliseconds of each step, the shortest first: 100 ms to 19 days.
STEPS: Final = tuple(_SHORTEST * 2**number for number in range(_STEPS))
#: 38 days: a message can pass each step once.
LONGEST_DELAY: Final = timedelta(milliseconds=sum(STEPS))
#: Each step may be some milliseconds late, so a delay takes no more than this many; for that it is
#: rounded up, by a sixteenth at most.
_MOST_HOPS: Final = 5


@dataclass(frozen=True, slots=True)
class Delay:
    """The way of a delayed message."""

    #: Numbers of the steps, the shortest first.
    steps: tuple[int, ...]

    @property
    def exchange(self) -> str:
        """Where it is published: at its longest step."""
        return exchange_of(self.steps[-1])

    def routing_key(self, queue: str) -> str:
        """What leads it through its steps, and back to the queue."""
        return _key(queue, dict.fromkeys(self.steps, "1"), "0")


def delay_of(delay: timedelta) -> Delay:
    """Find the steps of a delay, whose sum is never less; `delay` is at most `LONGEST_DELAY`."""
    units = -(-delay // timedelta(milliseconds=_SHORTEST))
    surplus = max(0, units.bit_length() - _MOST_HOPS)
    rounded = min(-(-units >> surplus) << surplus, 2**_STEPS - 1)
    return Delay(tuple(number for number in range(_STEPS) if rounded >> number & 1))


def exchange_of(number: int) -> str:
    """The exchange before a step; before step -1 the messages are due."""
    return f"{DELAY_EXCHANGE}.{STEPS[number]}" if number >= 0 else DUE_EXCHANGE


def exchanges() -> Iterator[tuple[str, str, str]]:
    """Each step's exchange, the next one, and the pattern of what doesn't wait between them."""
    for number in range(_STEPS):
        words = ["*"] * _STEPS
        words[_STEPS - 1 - number] = "0"
        yield exchange_of(number), exchange_of(number - 1), ".".join([*words, "#"])


def waits_at(queue: str, number: int) -> str:
    """The pattern of what waits in a step of the queue."""
    return _key(queue, {number: "1"}, "*")


def comes_due(queue: str) -> str:
    """The pattern of what has waited for the queue."""
    return _key(queue, {}, "*")


def _key(queue: str, words: dict[int, str], others: str) -> str:
    return ".".join([*(words.get(one, others) for one in reversed(range(_STEPS))), queue])
