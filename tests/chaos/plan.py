"""What shall happen in a chaos test, and when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import TypeVar

B = TypeVar("B", bound=StrEnum)


class Blow(StrEnum):
    """What can be done to a system at work."""

    KILL_CONSUMER = "consumer killed"
    DROP_ANSWER = "answer of a bulk call dropped"
    FAIL_BULK = "bulk call with an item that makes PostgreSQL fail"
    RESTART_BROKER = "broker killed and restarted"
    STALL_BROKER = "broker stalled for longer than a lease"
    CUT_CONNECTIONS = "consumers' connections cut"
    RESTART_PREFECT = "Prefect's server killed and restarted"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How many messages, and how many blows of each kind.

    The same seed gives the same moments; what is in flight then differs from run to run.
    """

    messages: int
    seed: int
    blows: dict[Blow, int]
    #: So many messages may have left the broker before the progress shows it.
    ahead: int = 0

    def schedule(self) -> Sequence[tuple[int, Blow]]:
        """All blows in order, each with the progress it waits for: runs (or effects) so far."""
        return spread(self.blows, messages=self.messages, seed=self.seed, ahead=self.ahead)


def spread(
    blows: Mapping[B, int], *, messages: int, seed: int, ahead: int = 0
) -> Sequence[tuple[int, B]]:
    """Draw the progress that each blow waits for, and put all in that order.

    None waits for the last fifth, nor until the last message may have left the broker, so that
    there is still something in flight to hit.
    """
    last = min(0.8 * messages, messages - 2 * ahead)
    numbers = Random(seed)
    moments = [
        (int(numbers.uniform(0.0, last)), blow)
        for blow, times in blows.items()
        for _ in range(times)
    ]
    numbers.shuffle(moments)
    return sorted(moments, key=lambda moment: moment[0])
