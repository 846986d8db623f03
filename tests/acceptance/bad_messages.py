"""Every kind of message that can't become a job, with the reason that it must die of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from blocks.message import Message

STRUCTURED = {"content-type": "application/cloudevents+json"}
BINARY = {"ce_specversion": "1.0", "ce_id": "b-1", "ce_source": "/t", "ce_type": "noa.job.noop"}


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A message, and how its dead letter must explain it."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    reason: str = "schema"
    #: The field path that the error begins with; empty where the whole message is meant.
    path: str = ""
    #: What the error says, in part.
    says: str

    @property
    def message(self) -> Message:
        return Message(body=self.body, headers=self.headers)


def event(**attributes: Any) -> bytes:
    """A no-op job's event, with these attributes changed or added."""
    whole: dict[str, Any] = {
        "specversion": "1.0",
        "id": "bad",
        "source": "/tests",
        "type": "noa.job.noop",
        "data": {},
        **attributes,
    }
    return json.dumps(whole).encode()


def noop_with(raw: str) -> bytes:
    """A no-op job whose `echo` is this raw text, which needn't be JSON."""
    return f'{{"type": "noop", "data": {{"echo": {raw}}}}}'.encode()


def webhook_with(**changes: Any) -> bytes:
    """A webhook job in which something is wrong; None leaves a field out."""
    data: dict[str, Any] = {"url": "https://hooks.example/x", "method": "POST", **changes}
    sent = {name: value for name, value in data.items() if value is not None}
    return json.dumps({"type": "webhook", "data": sent}).encode()


BAD: Mapping[str, Bad] = {
    # Bytes that aren't JSON, and JSON that is no message.
    "not UTF-8": Bad(body=b'{"type": "noop", "data": "\xff"}', says="not UTF-8"),
    "UTF-16": Bad(body='{"type": "noop"}'.encode("utf-16"), says="not UTF-8"),
    "not JSON": Bad(body=b"type=noop&data=1", says="not JSON"),
    "half of a message": Bad(body=b'{"type": "noop", "data": {', says="not JSON"),
    "without a body": Bad(body=b"", says="not JSON"),
    "a binary event without a body": Bad(body=b"", headers=BINARY, says="not JSON"),
    "a list": Bad(body=b"[1, 2]", says="must be a JSON object"),
    "a text": Bad(body=b'"noop"', says="must be a JSON object"),
    "null": Bad(body=b"null", says="must be a JSON object"),
    "a batch of events": Bad(
        body=b"[]",
        headers={"content-type": "application/cloudevents-batch+json"},
        says="one by one",
    ),
    # JSON that no database holds, or that is made to hurt.
    "NaN": Bad(body=noop_with("NaN"), says="NaN is no JSON number"),
    "1e999": Bad(body=noop_with("[1, 1e999]"), path="data.echo[1]", says="too large"),
    "an endless integer": Bad(body=noop_with("1" * 5000), says="not JSON"),
    "a NUL": Bad(body=noop_with(r'{"a": "x\u0000"}'), path="data.echo.a", says="NUL character"),
    "a NUL in a name": Bad(body=noop_with(r'{"\u0000": 1}'), path="data.echo", says="NUL"),
    "half a surrogate pair": Bad(
        body=noop_with(r'"\ud800"'), path="data.echo", says="surrogate pair"
    ),
    "1,000 deep": Bad(body=noop_with("[" * 1000 + "]" * 1000), says="nested deeper than 64"),
    "100,000 deep": Bad(body=noop_with('{"a":' * 100_000), says="nested deeper than 64"),
    "10 MB": Bad(body=noop_with(f'"{"x" * 10_000_000}"'), says="at most 5242880 are taken"),
    # Events that aren't ours.
    "no type": Bad(body=b'{"data": {}}', path="type", says="missing"),
    "unknown type": Bad(
        body=event(type="noa.job.nop"),
        reason="unknown-type",
        path="type",
        says="there is no job type 'nop'; did you mean 'noop'?",
    ),
    "a type this queue may not start": Bad(
        body=event(type="noa.job.report", id="forbidden", data={"type": "pdf", "data": []}),
        reason="forbidden",
        path="type",
        says="may not start 'report'; it may start noop, webhook",
    ),
    "wrong version": Bad(
        body=event(specversion="0.3"), path="specversion", says="is '0.3'; this consumer knows"
    ),
    "a version that is no text": Bad(
        body=event(specversion={"a": 1}), path="specversion", says="CloudEvents 1.0"
    ),
    "structured without a version": Bad(
        body=b'{"type": "noop", "data": {}}', headers=STRUCTURED, path="specversion", says="is None"
    ),
    "expired": Bad(
        body=event(expirytime="2020-01-01T00:00:00Z"),
        reason="expired",
        path="expirytime",
        says="expired at 2020-01-01",
    ),
    "an expiry without a zone": Bad(
        body=event(expirytime="2099-01-01T00:00:00"), path="expirytime", says="RFC 3339"
    ),
    "a priority off the scale": Bad(body=event(priority=10), path="priority", says="9 (lowest)"),
    "control characters in the id": Bad(body=event(id="a\x1b[2Jb"), path="id", says="control"),
    "control characters in the subject": Bad(
        body=event(subject="a\r\nb"), path="subject", says="control characters"
    ),
    "control characters in a header": Bad(
        body=b"{}", headers={**BINARY, "ce_tenant": "a\x07"}, path="tenant", says="control"
    ),
    "a payload by reference": Bad(
        body=event(dataref="https://example.com/x"),
        reason="forbidden",
        path="dataref",
        says="not taken from a producer",
    ),
    "a misspelt attribute": Bad(
        body=b'{"type": "noop", "data": {}, "priorty": 1}',
        path="priorty",
        says="did you mean 'priority'?",
    ),
    # Payloads that aren't the job's.
    "data that is no object": Bad(body=event(data=[1]), path="data", says="must be an object"),
    "no data": Bad(body=b'{"type": "noop"}', path="data", says="must be an object"),
    "an unknown field": Bad(
        body=event(data={"ecko": 1}), path="data.ecko", says="did you mean 'echo'?"
    ),
    "a missing field": Bad(body=webhook_with(url=None), path="data.url", says="required"),
    "a wrong field": Bad(body=webhook_with(method="GET"), path="data.method", says="'POST'"),
    "a wrong field deep down": Bad(
        body=webhook_with(headers={"x": "1", "y": 2}), path="data.headers.y", says="string"
    ),
    "two wrong fields": Bad(
        body=webhook_with(method=5, timeout=0), path="data.method", says="(and 1 more)"
    ),
    "both spellings of one name": Bad(
        body=webhook_with(expectedResponse={}, expected_response={}),
        path="data.expected_response",
        says="sent twice, as 'expected_response' and as 'expectedResponse'",
    ),
    # What would grow without bounds in a log, or move the cursor of whoever reads it.
    "a name of 100,000 characters": Bad(
        body=event(data={"x" * 100_000: 1}), path="data.xxxx", says="unknown field"
    ),
    "a name with control characters": Bad(
        body=event(data={"\x1b[2J": 1}), path=r"data.\x1b[2J", says="unknown field"
    ),
}
