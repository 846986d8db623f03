"""Counts what a consumer has done, for its result and its log."""

from dataclasses import asdict, dataclass

from blocks.message import Dead, Done, Release, Verdict


@dataclass(kw_only=True, slots=True)
class Tally:
    """How many messages were taken, and what became of them."""

    received: int = 0
    handed_over: int = 0
    #: Settled without a run: filtered out, or a second copy of a dead letter.
    passed_over: int = 0
    dead: int = 0
    released: int = 0
    retried: int = 0
    lost_leases: int = 0

    def count(self, verdict: Verdict, *, has_run: bool) -> None:
        """Count one settled message."""
        match verdict:
            case Done() if has_run:
                self.handed_over += 1
            case Done():
                self.passed_over += 1
            case Dead():
                self.dead += 1
            case Release():
                self.released += 1
            case _:
                self.retried += 1

    def __str__(self) -> str:
        return ", ".join(
            f"{name.replace('_', ' ')} {count}" for name, count in asdict(self).items()
        )
