"""Polling instead of sleeping: wait for what a test means, with a limit and a clear failure."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, overload

T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T | None],
    *,
    description: str,
    timeout: float = 10,
    interval: float = 0.02,
) -> T:
    """Poll until the predicate answers something true, and return that.

    An exception of the predicate means "not yet"; the last one is the cause of the failure.

    Args:
        predicate: What to ask. It is asked at least once.
        description: What is waited for, as the end of "waited 10 s for …".
        timeout: Seconds until it is a failure.
        interval: Seconds between two questions.

    Raises:
        AssertionError: The time is up; names the description and the last answer.
    """
    deadline = time.monotonic() + timeout
    looks = 0
    while True:
        looks += 1
        answer: T | None = None
        error: Exception | None = None
        try:
            answer = predicate()
        except Exception as raised:  # noqa: BLE001 - whatever it is, it means "not yet"
            error = raised
        if answer:
            return answer
        if time.monotonic() >= deadline:
            raise _failure(description, timeout, looks, answer, error) from error
        time.sleep(interval)


@overload
def eventually(
    predicate: Callable[[], Awaitable[T | None]],
    *,
    description: str,
    timeout: float = ...,
    interval: float = ...,
) -> Coroutine[Any, Any, T]: ...
@overload
def eventually(
    predicate: Callable[[], T | None],
    *,
    description: str,
    timeout: float = ...,
    interval: float = ...,
) -> Coroutine[Any, Any, T]: ...
def eventually(
    predicate: Callable[[], Any],
    *,
    description: str,
    timeout: float = 10,
    interval: float = 0.02,
) -> Coroutine[Any, Any, Any]:
    """`wait_until` on the event loop; the predicate may be a plain or an async function.

    A predicate that hangs is cut off when the time is up.
    """
    return _poll(predicate, description, limit=timeout, interval=interval)


async def _poll(
    predicate: Callable[[], Any], description: str, *, limit: float, interval: float
) -> Any:
    answer: object = None
    error: Exception | None = None
    looks = 0
    try:
        async with asyncio.timeout(limit):
            while True:
                try:
                    answer, error = await _ask(predicate), None
                except Exception as raised:  # noqa: BLE001 - it means "not yet"
                    answer, error = None, raised
                if answer:
                    return answer
                looks += 1
                await asyncio.sleep(interval)
    except TimeoutError:
        raise _failure(description, limit, looks, answer, error) from error


async def _ask(predicate: Callable[[], Any]) -> Any:
    answer = predicate()
    return await answer if inspect.isawaitable(answer) else answer


def _failure(
    description: str, timeout: float, looks: int, answer: object, error: Exception | None
) -> AssertionError:
    last = f"raised {error!r}" if error else f"answered {answer!r}"
    return AssertionError(
        f"waited {timeout:g} s for {description}; the last of {looks} looks {last}"
    )
