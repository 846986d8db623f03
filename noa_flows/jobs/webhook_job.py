"""The webhook job: an HTTP request to a receiver the message names."""

import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Literal, Self

import httpx
from pydantic import ConfigDict, Field, JsonValue, field_validator, model_validator

from noa_flows.errors import PermanentJobError, TemporaryJobError
from noa_flows.job import job
from noa_flows.job_run import JobRun
from noa_flows.payload import Payload, Result
from noa_flows.webhooks.allowed_host import canonical_host
from noa_flows.webhooks.backoff import Backoff
from noa_flows.webhooks.content import encode_content
from noa_flows.webhooks.delivery import Delivery, Outcome, WebhookAttempt
from noa_flows.webhooks.expected_response import ExpectedResponse
from noa_flows.webhooks.guarded_transport import GuardedTransport
from noa_flows.webhooks.host_guard import HostGuard, Resolver, resolve_by_system
from noa_flows.webhooks.redaction import redacted_url, secret_values, without
from noa_flows.webhooks.request_rules import check_headers, check_url
from noa_flows.webhooks.schema_judge import schema_problems
from noa_flows.webhooks.secret_reader import SecretReader, read_prefect_secret
from noa_flows.webhooks.sender import Answer, OutgoingRequest, Sender
from noa_flows.webhooks.settings import WebhookSettings
from noa_flows.webhooks.signer import Signer, WebhookSignature, load_signer

_USER_AGENT = "noa-flows"
_ARTIFACT = "attempts"


class WebhookPayload(Payload):
    """What is sent, where to, and what answer is expected.

    Example:
        >>> WebhookPayload(url="https://hooks.example/orders", method="PUT", body=[17]).timeout
        15000
    """

    # A payload may hold credentials, and pydantic would quote them.
    model_config = ConfigDict(hide_input_in_errors=True)

    url: str = Field(description="An http or https URL, without user name and password.")
    method: Literal["POST", "PUT", "PATCH"] = Field(description="The HTTP method.")
    headers: dict[str, str] = Field(
        default_factory=dict[str, str],
        description="Headers to send. Those that frame the request, and webhook-*, are refused.",
    )
    body: JsonValue = Field(
        default=None,
        description="Sent as JSON; text with a Content-Type other than JSON is sent as it is. "
        "Null is no body.",
    )
    retries: int | None = Field(
        default=None,
        ge=0,
        le=20,
        description="Attempts after the first; without it, the operator's setting.",
    )
    # Standard Webhooks asks for 15 to 30 s; longer, and slow receivers would hold the workers.
    timeout: int = Field(
        default=15_000, ge=1, le=30_000, description="Milliseconds for each attempt as a whole."
    )
    signature: WebhookSignature | None = Field(
        default=None,
        description="Also sign the body in the header X-Signature, with a key of the operator's.",
    )
    expected_response: ExpectedResponse = Field(
        default_factory=ExpectedResponse, description="What answer counts as success."
    )

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        check_url(url)
        return url

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        check_headers(headers)
        return headers

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        encode_content(self.body, self.headers)
        if self.signature and "x-signature" in {name.lower() for name in self.headers}:
            raise ValueError("headers: X-Signature is there twice; leave it out, or `signature`")
        return self


class WebhookReceipt(Result):
    """A delivery that the receiver has answered as expected."""

    #: What the receiver saw as `webhook-id`.
    delivery_id: str
    method: str
    #: Without its query, and without tokens in its path.
    url: str
    status: int
    attempts: tuple[WebhookAttempt, ...]
    duration_ms: int
    #: The beginning of the answer's body, without credentials that were sent.
    response_excerpt: str
    #: Whether the body was checked against a JSON Schema.
    validated: bool


@job("webhook", retries=0)
async def webhook(payload: WebhookPayload, run: JobRun) -> WebhookReceipt:
    """Send an HTTP request, repeat it until it is answered as expected, and say what came back.

    Temporary failures (no connection, no answer in time, status 408, 425, 429, 500, 502, 503 and
    504) are repeated with growing pauses under one `webhook-id`; all others are final. Redirects
    are not followed, and only public addresses are reached, unless the operator allowed the host.
    """
    return await deliver_webhook(payload, run)


async def deliver_webhook(
    payload: WebhookPayload,
    run: JobRun,
    *,
    resolve: Resolver = resolve_by_system,
    read_secret: SecretReader = read_prefect_secret,
) -> WebhookReceipt:
    """Do the job's work, with a way to resolve names and one to read secrets.

    Raises:
        PermanentJobError: The host or the key isn't allowed, the schema is wrong, or the receiver
            answered something that a repetition wouldn't change.
        TemporaryJobError: The last attempt failed in a way that may pass.
    """
    started = time.monotonic()
    settings = run.settings.webhook
    await _check_schema(payload.expected_response, settings)
    request = _request(payload)
    signer = await load_signer(
        run.delivery_id,
        request.body,
        canonical_host(httpx.URL(payload.url).raw_host.decode("ascii")),
        settings=settings,
        signature=payload.signature,
        read_secret=read_secret,
    )
    guard = HostGuard(settings.allowed(), resolve)
    async with GuardedTransport(guard, tls=_tls(settings)) as transport:
        outcome = await _delivery(payload, run, request, signer, transport).run()
    duration_ms = round((time.monotonic() - started) * 1000)
    await _show_attempts(payload, run, outcome)
    answer = _delivered(payload, outcome, duration_ms)
    return WebhookReceipt(
        delivery_id=signer.webhook_id,
        method=payload.method,
        url=redacted_url(payload.url),
        status=answer.status,
        attempts=outcome.attempts,
        duration_ms=duration_ms,
        response_excerpt=_excerpt(answer, payload, settings),
        validated=payload.expected_response.json_schema is not None,
    )


async def _check_schema(expected: ExpectedResponse, settings: WebhookSettings) -> None:
    """Find a wrong schema before anything is sent."""
    if expected.json_schema is None:
        return
    within = timedelta(seconds=settings.schema_timeout_seconds)
    problems = await schema_problems(expected.json_schema, None, within=within)
    if problems:
        raise PermanentJobError(f"expected_response.json_schema: {'; '.join(problems)}")


def _request(payload: WebhookPayload) -> OutgoingRequest:
    content = encode_content(payload.body, payload.headers)
    given = {name.lower() for name in payload.headers}
    defaults = {"User-Agent": _USER_AGENT, "Accept": "*/*", "Content-Type": content.type}
    added = {
        name: value
        for name, value in defaults.items()
        if value is not None and name.lower() not in given
    }
    return OutgoingRequest(
        method=payload.method,
        url=payload.url,
        headers={**added, **payload.headers},
        body=content.body,
    )


def _tls(settings: WebhookSettings) -> ssl.SSLContext | None:
    return settings.ca_file and ssl.create_default_context(cafile=settings.ca_file)


def _delivery(
    payload: WebhookPayload,
    run: JobRun,
    request: OutgoingRequest,
    signer: Signer,
    transport: GuardedTransport,
) -> Delivery:
    settings, retry = run.settings.webhook, run.settings.retry
    retries = retry.max_attempts - 1 if payload.retries is None else payload.retries
    return Delivery(
        request=request,
        expected=payload.expected_response,
        sender=Sender(
            transport=transport,
            timeout=timedelta(milliseconds=payload.timeout),
            connect_timeout=timedelta(seconds=settings.connect_timeout_seconds),
            read_limit=_read_limit(payload.expected_response, settings),
        ),
        sign=signer.headers,
        backoff=Backoff(
            first=retry.first_pause,
            multiplier=retry.backoff_multiplier,
            maximum=retry.longest_pause,
            longest_asked=timedelta(seconds=settings.max_retry_after_seconds),
        ),
        max_attempts=retries + 1,
        schema_time=timedelta(seconds=settings.schema_timeout_seconds),
        report=_reporter(run, retries + 1),
    )


def _read_limit(expected: ExpectedResponse, settings: WebhookSettings) -> int:
    if expected.json_schema is None:
        # Only the excerpt is wanted, and a character takes up to four bytes.
        return settings.excerpt_characters * 4
    return min(expected.max_bytes or settings.max_response_bytes, settings.max_response_bytes)


def _reporter(run: JobRun, max_attempts: int) -> Callable[[WebhookAttempt], Awaitable[None]]:
    async def report(attempt: WebhookAttempt) -> None:
        text = f"attempt {attempt.number} of {max_attempts}: {attempt.error or attempt.status}"
        if attempt.pause_ms is not None:
            text += f"; next in {attempt.pause_ms / 1000:.1f} s"
        run.logger.log(logging.WARNING if attempt.error else logging.INFO, "%s", text)
        done = 100.0 if attempt.pause_ms is None else 100.0 * attempt.number / max_attempts
        await run.progress(done, text)

    return report


async def _show_attempts(payload: WebhookPayload, run: JobRun, outcome: Outcome) -> None:
    rows = [
        {
            "attempt": attempt.number,
            "time": attempt.at.isoformat(timespec="milliseconds"),
            "result": attempt.error or str(attempt.status),
            "duration (ms)": attempt.duration_ms,
            "pause after (ms)": attempt.pause_ms,
        }
        for attempt in outcome.attempts
    ]
    await run.table(_ARTIFACT, rows, f"{payload.method} {redacted_url(payload.url)}")


def _delivered(payload: WebhookPayload, outcome: Outcome, duration_ms: int) -> Answer:
    """Return the answer of a delivery, and raise for everything else."""
    if outcome.answer is not None and outcome.failure is None:
        return outcome.answer
    count = len(outcome.attempts)
    attempts = "1 attempt" if count == 1 else f"{count} attempts"
    last = outcome.attempts[-1].error
    text = (
        f"{payload.method} {redacted_url(payload.url)} failed after {attempts} "
        f"in {duration_ms / 1000:.1f} s; the last: {last}"
    )
    temporary = outcome.failure is not None and outcome.failure.temporary
    raise TemporaryJobError(text) if temporary else PermanentJobError(text)


def _excerpt(answer: Answer, payload: WebhookPayload, settings: WebhookSettings) -> str:
    # PostgreSQL, where Prefect keeps results, takes no NUL.
    text = answer.body.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    shown = without(text, secret_values(payload.url, payload.headers))
    return shown[: settings.excerpt_characters]
