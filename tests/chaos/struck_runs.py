"""What became of runs under fire: what Prefect and the ledger say, and whether they agree."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

COMPLETED, CANCELLED, INTERRUPTED = "Completed", "Cancelled", "Interrupted"
#: Nothing comes after these. A run that is Crashed is still to be executed again, or Interrupted.
ENDS = frozenset({COMPLETED, CANCELLED, INTERRUPTED})
#: A run is executed again after this many interruptions, and given up at the next.
_TOLERATED_INTERRUPTIONS = 3


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the ledger: an execution of a run begins, or ends."""

    what: str
    delivery: str
    run: str
    pid: int
    at: float


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A state that a run has been in, from this moment on."""

    name: str
    kind: str
    at: float


@dataclass(frozen=True, kw_only=True)
class StruckRun:
    """A run, with all that is known of it."""

    id: str
    #: The id of the message that it comes from.
    message: str
    delivery: str
    job: str
    states: Sequence[Passage]
    entries: Sequence[Entry]
    #: Whether somebody has asked for its cancellation.
    asked_to_cancel: bool
    #: The reasons for which its message is among the dead letters.
    dead_letters: Sequence[str]

    @property
    def end(self) -> str:
        """The name of its last state."""
        return self.states[-1].name if self.states else "none"

    def begins(self) -> Sequence[float]:
        """When its executions began."""
        return [one.at for one in self.entries if one.what == "begin"]

    def ends(self) -> Sequence[float]:
        """When its executions came to their last line."""
        return [one.at for one in self.entries if one.what == "end"]

    def entered(self, name: str) -> Sequence[float]:
        """When it came into a state."""
        return [one.at for one in self.states if one.name == name]

    @property
    def interruptions(self) -> int:
        """How often it has died; several may have noticed the same death.

        One that waited to be executed again, and was called crashed for its silence, hasn't died.
        """
        not_alive = {"Crashed", "Interrupted", "AwaitingRetry"}
        before = ["Scheduled", *(one.name for one in self.states)]
        return sum(
            state.kind == "CRASHED" and previous not in not_alive
            for previous, state in zip(before, self.states, strict=False)
        )

    def described(self) -> str:
        """Write states and entries in the order in which they happened."""
        happened = [(one.at, f"{one.name}") for one in self.states]
        happened += [(one.at, f"[{one.what} {one.pid}]") for one in self.entries]
        first = min((at for at, _ in happened), default=0.0)
        steps = [f"{at - first:.2f} {what}" for at, what in sorted(happened)]
        about = f"run {self.id} of {self.message} ({self.job})"
        asked = ", asked to cancel" if self.asked_to_cancel else ""
        return f"{about}{asked}, dead letters {list(self.dead_letters)}: {'; '.join(steps)}"


def read_entries(path: Path) -> Sequence[Entry]:
    """Read the ledger so far; nothing where nobody has begun."""
    if not path.exists():
        return []
    entries: list[Entry] = []
    for line in path.read_text().splitlines():
        what, delivery, run, pid, at = line.split()
        entries.append(Entry(what=what, delivery=delivery, run=run, pid=int(pid), at=float(at)))
    return entries


def judge(runs: Sequence[StruckRun]) -> Sequence[str]:
    """Name every breach of a promise, with the run that shows it."""
    return [f"{breach}: {run.described()}" for run in runs for breach in _breaches(run)]


def judge_deliveries(
    runs: Sequence[StruckRun], entries: Sequence[Entry], messages: Sequence[str]
) -> Sequence[str]:
    """Name every message that hasn't one run and one delivery id, and every entry of no message."""
    breaches: list[str] = []
    of_messages = Counter(run.message for run in runs)
    for message in {*messages, *of_messages}:
        expected = 1 if message in messages else 0
        if of_messages[message] != expected:
            breaches.append(f"the message {message} has {of_messages[message]} runs")
    shared = [id_ for id_, count in Counter(run.delivery for run in runs).items() if count > 1]
    breaches += [f"the delivery id {delivery} has several runs" for delivery in shared]
    known = {(run.id, run.delivery) for run in runs}
    strangers = {(one.run, one.delivery) for one in entries} - known
    breaches += [f"run {run} entered the strange delivery id {id_}" for run, id_ in strangers]
    return breaches


def explain(runs: Sequence[StruckRun]) -> Sequence[str]:
    """Say of each run that began more than once, what it went through."""
    return [run.described() for run in runs if len(run.begins()) > 1]


def group_entries(entries: Sequence[Entry]) -> Mapping[str, Sequence[Entry]]:
    """Sort the ledger by runs."""
    groups: dict[str, list[Entry]] = {}
    for one in entries:
        groups.setdefault(one.run, []).append(one)
    return groups


def _breaches(run: StruckRun) -> Iterator[str]:
    yield from _of_the_end(run)
    yield from _of_repeats(run)
    yield from _of_interruptions(run)


def _of_the_end(run: StruckRun) -> Iterator[str]:
    """A run's end is final, and true."""
    if run.end not in ENDS:
        yield f"not at an end, but {run.end}"
    if any(one.name in ENDS and after.name != one.name for one, after in pairwise(run.states)):
        yield "left an end again"
    if run.end == COMPLETED and not run.ends():
        yield "Completed without having come to its last line"
    if run.end == CANCELLED and not run.asked_to_cancel:
        yield "Cancelled unasked"
    if run.end != CANCELLED and run.entered("Cancelling"):
        yield "Cancelling, and not Cancelled in the end"
    if run.end == INTERRUPTED and run.ends() and not _crashed_between(run, run.ends()[-1], None):
        # A process may die after its last line, before Prefect has been told.
        yield "Interrupted, and nothing has happened after its last line"


def _of_repeats(run: StruckRun) -> Iterator[str]:
    """A run is executed again only after a crash, and never after it has completed."""
    begins = run.begins()
    for completed in run.entered(COMPLETED):
        if any(at > completed for at in begins):
            yield "executed again after it had completed"
    for before, after in pairwise(begins):
        if not _crashed_between(run, before, after):
            yield "executed again without a crash"
    if run.job == "struck-dead" and len(begins) > 1:
        yield "executed again, which its job doesn't allow"


def _of_interruptions(run: StruckRun) -> Iterator[str]:
    """The message of an interrupted run, and no other, is once among the dead letters."""
    expected = ["interrupted"] if run.end == INTERRUPTED else []
    if list(run.dead_letters) != expected:
        yield f"dead letters are {list(run.dead_letters)}, not {expected}"
    again = run.interruptions - (run.end == INTERRUPTED)
    if again > _TOLERATED_INTERRUPTIONS:
        yield f"executed again after {again} interruptions"
    if run.end != INTERRUPTED:
        return
    if run.job != "struck-dead" and run.interruptions <= _TOLERATED_INTERRUPTIONS:
        yield f"given up after {run.interruptions} interruptions"
    if run.job == "struck-dead" and not run.entered("Running"):
        yield "Interrupted, though it had never begun"


def _crashed_between(run: StruckRun, after: float, before: float | None) -> bool:
    return any(after <= at and (before is None or at <= before) for at in run.entered("Crashed"))
