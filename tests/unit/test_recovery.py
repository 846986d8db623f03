"""What is read from the history of a crashed run."""

import pytest

from noa_flows.recovery.interrupted import has_begun, interruptions

TYPES = {"AwaitingRetry": "SCHEDULED"}


def history(*types: str) -> list[dict[str, str]]:
    """States by their types; those of another name than their type's by that."""
    return [{"type": TYPES.get(one, one), "name": one} for one in types]


@pytest.mark.parametrize(
    ("types", "deaths"),
    [
        (["SCHEDULED", "PENDING", "RUNNING", "CRASHED"], 1),
        # Its worker and an automation both say so.
        (["SCHEDULED", "PENDING", "RUNNING", "CRASHED", "CRASHED"], 1),
        (["RUNNING", "CRASHED", "SCHEDULED", "PENDING", "RUNNING", "CRASHED"], 2),
        # Code that can't be imported crashes before it begins.
        (["SCHEDULED", "CRASHED", "SCHEDULED", "CRASHED"], 2),
        (["CRASHED"], 1),
        # An automation that missed the event of the second state.
        (["RUNNING", "AwaitingRetry", "CRASHED"], 0),
        (["RUNNING", "AwaitingRetry", "CRASHED", "SCHEDULED", "RUNNING", "CRASHED"], 1),
    ],
)
def test_a_death_counts_once_whoever_notices_it(types: list[str], deaths: int) -> None:
    assert interruptions(history(*types)) == deaths


def test_a_run_has_begun_if_it_was_ever_running() -> None:
    assert has_begun(history("SCHEDULED", "PENDING", "RUNNING", "CRASHED", "SCHEDULED", "CRASHED"))
    assert not has_begun(history("SCHEDULED", "PENDING", "CRASHED"))
