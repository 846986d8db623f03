"""The attempts to bring one webhook to its receiver."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx

from noa_flows.errors import PermanentJobError
from noa_flows.payload import Result
from noa_flows.webhooks.backoff import Backoff, read_retry_after
from noa_flows.webhooks.expected_response import ExpectedResponse
from noa_flows.webhooks.sender import Answer, OutgoingRequest, Sender
from noa_flows.webhooks.verdict import Failure, judge_answer


class WebhookAttempt(Result):
    """One try, as the receipt and the artifact show it."""

    number: int
    at: datetime
    #: The HTTP status; None where no answer came.
    status: int | None
    #: What was wrong; None for a delivery.
    error: str | None
    duration_ms: int
    #: The pause before the next try; None if there is none.
    pause_ms: int | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a delivery ended: every attempt, and the last one's answer and failure."""

    attempts: tuple[WebhookAttempt, ...]
    answer: Answer | None
    failure: Failure | None


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Sends one request until it is answered as expected, or there is no point in going on."""

    request: OutgoingRequest
    expected: ExpectedResponse
    sender: Sender
    #: Headers of an attempt by its time: a retry keeps its id, and has a fresh timestamp.
    sign: Callable[[datetime], Mapping[str, str]]
    backoff: Backoff
    max_attempts: int
    schema_time: timedelta
    #: Told of each attempt as it ends.
    report: Callable[[WebhookAttempt], Awaitable[None]]

    async def run(self) -> Outcome:
        """Make attempt after attempt; an outcome without a delivery is returned, not raised."""
        attempts: list[WebhookAttempt] = []
        while True:
            attempt, answer, failure = await self._attempt(len(attempts) + 1)
            attempts.append(attempt)
            await self.report(attempt)
            if attempt.pause_ms is None:
                return Outcome(attempts=tuple(attempts), answer=answer, failure=failure)
            await asyncio.sleep(attempt.pause_ms / 1000)

    async def _attempt(self, number: int) -> tuple[WebhookAttempt, Answer | None, Failure | None]:
        at, started = datetime.now(UTC), time.monotonic()
        answer, failure = await self._try_once(at)
        again = failure is not None and failure.temporary and number < self.max_attempts
        attempt = WebhookAttempt(
            number=number,
            at=at,
            status=answer.status if answer else None,
            error=failure.text if failure else None,
            duration_ms=round((time.monotonic() - started) * 1000),
            pause_ms=self._pause_ms(number, answer) if again else None,
        )
        return attempt, answer, failure

    async def _try_once(self, at: datetime) -> tuple[Answer | None, Failure | None]:
        try:
            answer = await self.sender.send(self.request, self.sign(at))
        except PermanentJobError as error:
            return None, Failure(text=str(error), temporary=False)
        except TimeoutError as error:
            return None, Failure(text=str(error), temporary=True)
        except httpx.TransportError as error:
            text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return None, Failure(text=text, temporary=True)
        return answer, await judge_answer(answer, self.expected, schema_time=self.schema_time)

    def _pause_ms(self, number: int, answer: Answer | None) -> int:
        header = answer.headers.get("retry-after") if answer else None
        asked = read_retry_after(header, datetime.now(UTC))
        return round(self.backoff.pause(number, asked) / timedelta(milliseconds=1))
