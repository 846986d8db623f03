"""What shall happen to workers and their runs, and when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

from tests.chaos.plan import spread

#: Instead of ten minutes; more than it takes a process to reach a server again that was away.
PENDING_PATIENCE_SECONDS = 180
#: Ample for every run but the one that is to be killed for its memory.
MEMORY_LIMIT_MIB = 400
_TOO_MUCH_MIB = 500
#: Longer than a worker waits for a run that is asked to stop.
_DEAF_SECONDS = 90.0
_HUNGRY_SECONDS = 20.0


class WorkerBlow(StrEnum):
    """What can be done to workers and their runs."""

    KILL_WORKER = "worker killed"
    KILL_FORK_SERVER = "fork server killed"
    KILL_RUN = "process of a run killed"
    CANCEL = "run cancelled"
    CANCEL_PENDING = "run cancelled just after Pending"
    STOP_PREFECT = "Prefect's server away"


@dataclass(frozen=True, kw_only=True)
class WorkersPlan:
    """How many messages and kills; the rest follows from these.

    Even messages are for the job that may be executed again, odd ones for the other. Two even ones
    are special: the run of one ignores SIGTERM, and that of the other uses too much memory.
    """

    messages: int
    kills: int
    seed: int
    #: How long Prefect's server is away.
    away_seconds: float
    #: How long it may take afterwards until every run is at an end: what nobody tells is found
    #: within five minutes (`noa_flows/recovery/stuck.py`), and a run may die four times.
    patience_seconds: float

    @property
    def blows(self) -> Mapping[WorkerBlow, int]:
        """A fifth of the kills at workers, a few at fork servers; one cancellation in 50 runs."""
        workers, fork_servers = max(1, self.kills // 5), max(1, self.kills // 12)
        cancelled = max(4, self.messages // 50)
        return {
            WorkerBlow.KILL_WORKER: workers,
            WorkerBlow.KILL_FORK_SERVER: fork_servers,
            WorkerBlow.KILL_RUN: self.kills - workers - fork_servers,
            WorkerBlow.CANCEL: cancelled // 2,
            WorkerBlow.CANCEL_PENDING: cancelled - cancelled // 2,
            WorkerBlow.STOP_PREFECT: 1,
        }

    @property
    def special(self) -> tuple[int, int]:
        """The numbers of the message whose run is deaf, and of that whose run is hungry."""
        deaf, hungry = Random(self.seed).sample(range(0, self.messages // 2, 2), 2)
        return deaf, hungry

    def schedule(self) -> Sequence[tuple[int, WorkerBlow]]:
        """All blows in order, each with the number of runs that have begun by then."""
        return spread(self.blows, messages=self.messages, seed=self.seed)

    def events(self, ledger: str) -> Sequence[Mapping[str, Any]]:
        """Write all messages; their runs work from 0.3 to 1 s."""
        numbers, (deaf, hungry) = Random(self.seed), self.special
        events: list[Mapping[str, Any]] = []
        for number in range(self.messages):
            data: dict[str, Any] = {"path": ledger, "seconds": round(numbers.uniform(0.3, 1), 2)}
            if number == deaf:
                data |= {"seconds": _DEAF_SECONDS, "deaf": True}
            if number == hungry:
                data |= {"seconds": _HUNGRY_SECONDS, "mebibytes": _TOO_MUCH_MIB}
            events.append(_event(number, data))
        return events


def message_name(number: int) -> str:
    """The id of a message's event."""
    return f"m{number}"


def _event(number: int, data: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "specversion": "1.0",
        "id": message_name(number),
        "source": "/chaos",
        "type": f"noa.job.{'struck-dead' if number % 2 else 'struck-rerun'}",
        "data": data,
    }
