"""The short form of `make chaos`: 500 messages instead of 2,000, 15 executed runs instead of 50."""

import secrets
import sys

import pytest

from tests.chaos.attack import Interruption
from tests.chaos.figures import as_table
from tests.chaos.hand_over_under_fire import hand_over_plan, hand_over_under_fire
from tests.chaos.ledger_under_fire import Entry, explain_repeats, ledger_plan, ledger_under_fire
from tests.chaos.plan import Blow
from tests.chaos.site import Provider
from tests.servers.postgres_databases import PostgresDatabases

pytestmark = [pytest.mark.chaos, pytest.mark.servers, pytest.mark.timeout(600)]

_MESSAGES, _EXECUTED = 500, 15


@pytest.fixture
def seed() -> int:
    """A new one for each test, printed so that a failure can be repeated."""
    drawn = secrets.randbelow(1_000_000)
    say(f"python -m tests.chaos --messages {_MESSAGES} --executed {_EXECUTED} --seed {drawn}")
    return drawn


def say(*lines: str) -> None:
    sys.stdout.write("\n".join(("", *lines, "")))


@pytest.mark.parametrize("provider", ["redis", "embedded"])
async def test_each_message_has_one_run_whatever_is_killed_cut_or_spoilt(
    provider: Provider, postgres_databases: PostgresDatabases, seed: int
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
