"""Pauses between attempts: bounded, random, and no shorter than the receiver asks."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noa_flows.webhooks.backoff import Backoff, read_retry_after

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
draws = st.floats(0, 1, exclude_max=True)


@given(
    draw=draws,
    attempt=st.integers(1, 10_000),
    multiplier=st.floats(1, 100),
    maximum=st.timedeltas(timedelta(0), timedelta(hours=1)),
)
def test_a_pause_lies_between_nothing_and_the_bound(
    draw: float, attempt: int, multiplier: float, maximum: timedelta
) -> None:
    backoff = Backoff(multiplier=multiplier, maximum=maximum, draw=lambda: draw)
    growth = multiplier ** min(attempt - 1, 64)
    bound = min(maximum, timedelta(seconds=min(growth, 10_000)))
    assert timedelta(0) <= backoff.pause(attempt) <= bound + timedelta(microseconds=1)


def test_the_bound_grows_with_each_attempt_up_to_the_maximum() -> None:
    backoff = Backoff(multiplier=3, maximum=timedelta(seconds=20), draw=lambda: 1.0)
    assert [backoff.pause(n).total_seconds() for n in (1, 2, 3, 4, 5)] == [1, 3, 9, 20, 20]


@given(draw=draws, asked=st.timedeltas(timedelta(0), timedelta(days=300)))
def test_what_the_receiver_asks_for_is_kept_up_to_a_bound(draw: float, asked: timedelta) -> None:
    backoff = Backoff(longest_asked=timedelta(minutes=5), draw=lambda: draw)
    pause = backoff.pause(1, asked)
    assert min(asked, timedelta(minutes=5)) <= pause <= timedelta(minutes=5)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("120", timedelta(seconds=120)),
        (" 0 ", timedelta(0)),
        ("Sun, 01 Jun 2025 12:00:30 GMT", timedelta(seconds=30)),
        ("Sun, 01 Jun 2025 12:00:30 -0000", timedelta(seconds=30)),
        ("Sunday, 01-Jun-25 12:00:30 GMT", timedelta(seconds=30)),
        ("Sun Jun  1 12:00:30 2025", timedelta(seconds=30)),
        ("Sun, 01 Jun 2025 11:00:00 GMT", timedelta(0)),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("9" * 5000, None),
        ("Sun, 99 Jun 2025 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms(header: str | None, expected: timedelta | None) -> None:
    assert read_retry_after(header, NOW) == expected


@given(st.text(max_size=60))
def test_any_text_in_retry_after_is_read_or_ignored(header: str) -> None:
    asked = read_retry_after(header, NOW)
    assert asked is None or asked >= timedelta(0)
