"""The breaker waits longer after each failure, and closes at the first success."""

from hypothesis import given
from hypothesis import strategies as st

from noa_flows.bridge.circuit_breaker import Circuit, CircuitBreaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def longest(_low: float, high: float) -> float:
    return high


def test_it_is_closed_at_first() -> None:
    breaker = CircuitBreaker(clock=Clock(), jitter=longest)
    assert breaker.circuit is Circuit.CLOSED
    assert breaker.wait().total_seconds() == 0


def test_each_failure_doubles_the_wait_up_to_a_bound() -> None:
    breaker = CircuitBreaker(clock=Clock(), jitter=longest)
    waits: list[float] = []
    for _ in range(10):
        breaker.failed()
        waits.append(breaker.wait().total_seconds())
    assert waits[:4] == [0.2, 0.4, 0.8, 1.6]
    assert waits[-1] == 15


def test_when_the_wait_is_over_one_probe_may_pass() -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock=clock, jitter=longest)
    breaker.failed()
    clock.now = 0.3
    assert breaker.circuit is Circuit.OPEN
    assert breaker.wait().total_seconds() == 0


def test_opening_and_closing_are_told_once() -> None:
    breaker = CircuitBreaker(clock=Clock(), jitter=longest)
    assert [breaker.failed(), breaker.failed()] == [True, False]
    assert [breaker.succeeded(), breaker.succeeded()] == [True, False]


def test_each_change_of_state_is_told_once_with_its_reason() -> None:
    told: list[tuple[Circuit, str]] = []
    breaker = CircuitBreaker(
        on_change=lambda circuit, why: told.append((circuit, why)), clock=Clock(), jitter=longest
    )
    breaker.probe()
    breaker.succeeded()
    breaker.failed("refused")
    breaker.failed("refused again")
    breaker.probe()
    breaker.probe()
    breaker.failed("and again")
    breaker.probe()
    breaker.succeeded()
    breaker.succeeded()
    assert told == [
        (Circuit.OPEN, "refused"),
        (Circuit.HALF_OPEN, "tried again after 2 failures"),
        (Circuit.OPEN, "and again"),
        (Circuit.HALF_OPEN, "tried again after 3 failures"),
        (Circuit.CLOSED, "answered after 3 failures"),
    ]


@given(failures=st.integers(1, 60))
def test_the_wait_stays_within_its_bounds(failures: int) -> None:
    breaker = CircuitBreaker(clock=Clock())
    for _ in range(failures):
        breaker.failed()
    assert 0.1 <= breaker.wait().total_seconds() <= 15
