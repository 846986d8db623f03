"""The short form of `make chaos`: a quarter of the messages or fewer, and of the blows."""

import secrets
import sys

import pytest

from tests.chaos.attack import Interruption
from tests.chaos.brokers import PROVIDERS
from tests.chaos.figures import as_table
from tests.chaos.hand_over_under_fire import hand_over_plan, hand_over_under_fire
from tests.chaos.ledger_under_fire import Entry, explain_repeats, ledger_plan, ledger_under_fire
from tests.chaos.plan import Blow
from tests.chaos.struck_runs import Entry as StruckEntry
from tests.chaos.struck_runs import Passage, StruckRun, judge, judge_deliveries
from tests.chaos.workers_plan import WorkersPlan
from tests.chaos.workers_under_fire import workers_under_fire
from tests.servers.postgres_databases import PostgresDatabases

pytestmark = [pytest.mark.chaos, pytest.mark.servers, pytest.mark.timeout(600)]

_MESSAGES, _EXECUTED = 300, 30
_STRUCK, _KILLS = 50, 5


@pytest.fixture
def seed() -> int:
    """A new one for each test, printed so that a failure can be repeated."""
    drawn = secrets.randbelow(1_000_000)
    say(f"python -m tests.chaos --messages {_MESSAGES} --executed {_EXECUTED} --seed {drawn}")
    return drawn


def say(*lines: str) -> None:
    sys.stdout.write("\n".join(("", *lines, "")))


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_each_message_has_one_run_whatever_is_killed_cut_or_spoilt(
    provider: str, postgres_databases: PostgresDatabases, seed: int
) -> None:
    plan = hand_over_plan(provider, messages=_MESSAGES, seed=seed)
    figures = await hand_over_under_fire(provider, plan, postgres_databases)
    say(as_table([figures]))
    assert not figures.wrong


async def test_each_executed_message_has_one_effect_under_one_delivery_id(
    postgres_databases: PostgresDatabases, seed: int
) -> None:
    plan = ledger_plan(messages=_EXECUTED, seed=seed)
    figures, repeats = await ledger_under_fire(plan, postgres_databases)
    say(as_table([figures]), *repeats)
    assert not figures.wrong


@pytest.mark.timeout(1200)
async def test_each_run_ends_truly_whatever_is_killed(
    postgres_databases: PostgresDatabases,
) -> None:
    plan = WorkersPlan(
        messages=_STRUCK,
        kills=_KILLS,
        seed=secrets.randbelow(1_000_000),
        away_seconds=15,
        patience_seconds=600,
    )
    options = f"--struck {_STRUCK} --kills {_KILLS} --away 15 --seed {plan.seed}"
    say(f"python -m tests.chaos --only workers {options}")
    figures, breaches, repeats = await workers_under_fire(plan, postgres_databases)
    say(as_table([figures]), *breaches, *repeats)
    assert not figures.wrong
    assert not breaches


_KINDS = {"Crashed": "CRASHED", "Interrupted": "CRASHED", "AwaitingRetry": "SCHEDULED"}


def struck_run(*happened: str, job: str = "struck-rerun", dead_letters: int = 0) -> StruckRun:
    """Make a run out of what happened to it, a second each: names of states, `begin` and `end`."""
    states, entries = list[Passage](), list[StruckEntry]()
    for at, what in enumerate(happened):
        if what in {"begin", "end"}:
            entries.append(StruckEntry(what=what, delivery="d", run="r", pid=1, at=at))
        else:
            states.append(Passage(name=what, kind=_KINDS.get(what, what.upper()), at=at))
    return StruckRun(
        id="r",
        message="m",
        delivery="d",
        job=job,
        states=states,
        entries=entries,
        asked_to_cancel="Cancelling" in happened,
        dead_letters=["interrupted"] * dead_letters,
    )


_BEGUN = ("Running", "begin")
_CRASHED = (*_BEGUN, "Crashed")
_DONE = (*_BEGUN, "end", "Completed")


@pytest.mark.parametrize(
    "run",
    [
        struck_run(*_DONE),
        struck_run(*_BEGUN, "Cancelling", "end", "Cancelled"),
        struck_run(*_CRASHED, "AwaitingRetry", *_DONE),
        struck_run(*_CRASHED * 4, "Interrupted", dead_letters=1),
        struck_run(*_CRASHED, "Interrupted", job="struck-dead", dead_letters=1),
        # It died before Prefect was told.
        struck_run(*_BEGUN, "end", "Crashed", "Interrupted", job="struck-dead", dead_letters=1),
    ],
)
def test_what_is_as_promised_is_no_breach(run: StruckRun) -> None:
    assert not judge([run])


@pytest.mark.parametrize(
    ("run", "breach"),
    [
        (struck_run(*_CRASHED), "not at an end, but Crashed"),
        (struck_run(*_BEGUN, "Completed"), "Completed without having come to its last line"),
        (struck_run(*_DONE, *_DONE), "executed again after it had completed"),
        (struck_run(*_BEGUN, *_DONE), "executed again without a crash"),
        (struck_run(*_BEGUN, "Cancelled"), "Cancelled unasked"),
        (struck_run(*_BEGUN, "Cancelling", "end", "Completed"), "Cancelling, and not Cancelled"),
        (struck_run(*_CRASHED, *_DONE, job="struck-dead"), "which its job doesn't allow"),
        (struck_run(*_CRASHED, "AwaitingRetry", "Crashed", "Interrupted", dead_letters=1), "given"),
        (struck_run(*_CRASHED * 4, "Interrupted"), "dead letters are []"),
        (struck_run(*_CRASHED * 4, "Interrupted", dead_letters=2), "dead letters are ['int"),
        (struck_run(*_CRASHED, "Interrupted", dead_letters=1), "given up after 1 interruptions"),
        (struck_run(*_CRASHED * 4, *_DONE), "executed again after 4 interruptions"),
    ],
)
def test_a_broken_promise_is_named(run: StruckRun, breach: str) -> None:
    assert any(breach in found for found in judge([run]))


def test_each_message_has_one_run_and_one_delivery_id() -> None:
    run = struck_run(*_DONE)
    assert not judge_deliveries([run], run.entries, ["m"])
    assert len(judge_deliveries([run, run], [], ["m"])) == 2
    assert len(judge_deliveries([run], run.entries, ["m", "n"])) == 1
    stranger = StruckEntry(what="begin", delivery="other", run="r", pid=1, at=0)
    assert len(judge_deliveries([run], [stranger], ["m"])) == 1


def test_a_repeat_is_explained_by_what_happened_since_the_effect_before() -> None:
    entries = [
        Entry(delivery=delivery, run=f"run-{at}", entry=0, attempt=1, pid=1, at=at)
        for delivery, at in (("a", 1.0), ("b", 2.0), ("a", 4.0), ("b", 5.0))
    ]
    interruptions = [Interruption(1.5, Blow.KILL_CONSUMER), Interruption(6.0, Blow.STALL_BROKER)]
    assert explain_repeats(entries, interruptions) == [
        "a by run run-4.0, attempt 1, after run run-1.0, attempt 1: consumer killed",
        "b by run run-5.0, attempt 1, after run run-2.0, attempt 1: no interruption explains it",
    ]
