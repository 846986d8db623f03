"""The envelope reads CloudEvents in both modes and the short plain form, and refuses all else."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from noa_flows.envelope import CLOUDEVENTS_JSON, Origin, decode, encode
from noa_flows.errors import EnvelopeError
from noa_flows.event import Event
from noa_flows.strict_json import JsonLimits

ORIGIN = Origin(id="1700-0", source="redis-broker:jobs")
LIMITS = JsonLimits(max_body_bytes=1_000_000, max_nesting=64)
STRUCTURED = {
    "specversion": "1.0",
    "id": "a-1",
    "source": "/shop",
    "type": "noa.job.report",
    "data": {"type": "pdf"},
}


def read(document: object, headers: dict[str, str] | None = None) -> Event:
    return decode(json.dumps(document).encode(), headers or {}, origin=ORIGIN, limits=LIMITS)


def refusal(document: object, headers: dict[str, str] | None = None) -> EnvelopeError:
    with pytest.raises(EnvelopeError) as caught:
        read(document, headers)
    return caught.value


def test_a_structured_event_is_read_by_its_content_type() -> None:
    event = read(STRUCTURED, {"content-type": f"{CLOUDEVENTS_JSON}; charset=utf-8"})
    assert (event.id, event.source, event.job_type) == ("a-1", "/shop", "report")
    assert event.data == {"type": "pdf"}


def test_a_structured_event_is_read_without_a_content_type() -> None:
    assert read(STRUCTURED).id == "a-1"


@pytest.mark.parametrize("prefix", ["ce_", "ce-", "cloudEvents_", "cloudEvents:"])
def test_a_binary_event_is_read_with_the_prefix_of_every_binding(prefix: str) -> None:
    attributes = {name: STRUCTURED[name] for name in ("specversion", "id", "source", "type")}
    headers = {f"{prefix}{name}": str(value) for name, value in attributes.items()}
    event = read({"type": "pdf"}, {**headers, f"{prefix}priority": "0"})
    assert (event.id, event.priority, event.data) == ("a-1", 0, {"type": "pdf"})


@pytest.mark.parametrize("write", [to_structured_event, to_binary_event])
def test_what_the_cloudevents_sdk_writes_is_read(write: Any) -> None:
    attributes = {name: STRUCTURED[name] for name in ("specversion", "id", "source", "type")}
    attributes |= {"datacontenttype": "application/json", "tenant": "acme", "subject": "für Ärzte"}
    message = write(CloudEvent(attributes, {"type": "pdf"}))
    event = decode(message.body, message.headers, origin=ORIGIN, limits=LIMITS)
    assert (event.id, event.job_type, event.data) == ("a-1", "report", {"type": "pdf"})
    assert (event.tenant, event.subject) == ("acme", "für Ärzte")


def test_the_plain_form_takes_the_brokers_coordinates_for_what_it_lacks() -> None:
    event = read({"type": "email", "data": {"to": ["a@example.com"]}})
    assert (event.job_type, event.id, event.source) == ("email", ORIGIN.id, ORIGIN.source)


def test_the_options_of_a_job_are_read() -> None:
    event = read(
        {
            **STRUCTURED,
            "priority": 9,
            "notbefore": "2027-01-31T09:00:00Z",
            "expirytime": "2027-02-01T09:00:00+01:00",
            "dedupkey": "d",
            "replyto": "answers",
            "tenant": "acme",
            "correlationid": "c",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        }
    )
    assert event.not_before == datetime(2027, 1, 31, 9, tzinfo=UTC)
    assert event.expires == datetime(2027, 2, 1, 8, tzinfo=UTC)
    assert (event.priority, event.tenant, event.reply_to) == (9, "acme", "answers")


def test_extensions_that_nobody_here_knows_are_passed_over_in_a_cloudevent() -> None:
    assert read({**STRUCTURED, "comexampleextension": 5}).id == "a-1"


@pytest.mark.parametrize(
    ("change", "path", "text"),
    [
        ({"specversion": "0.3"}, "specversion", "CloudEvents 1.0"),
        ({"type": ""}, "type", "isn't empty"),
        ({"type": 5}, "type", "text"),
        ({"id": "a\x07"}, "id", "control"),
        ({"id": "x" * 2000}, "id", "2000 characters"),
        ({"priority": 10}, "priority", "0 (highest) to 9"),
        ({"priority": True}, "priority", "0 (highest) to 9"),
        ({"notbefore": "tomorrow"}, "notbefore", "RFC 3339"),
        ({"notbefore": "2027-01-31T09:00:00"}, "notbefore", "RFC 3339"),
        ({"data": [1]}, "data", "object"),
        ({"dataref": "https://example.com/payload"}, "dataref", "not taken from a producer"),
    ],
)
def test_a_wrong_attribute_is_named_with_its_remedy(
    change: dict[str, Any], path: str, text: str
) -> None:
    error = refusal({**STRUCTURED, **change})
    assert error.path == path
    assert text in str(error)


def test_a_misspelt_name_of_the_plain_form_is_refused_with_a_suggestion() -> None:
    error = refusal({"type": "email", "data": {}, "priorty": 1})
    assert error.path == "priorty"
    assert "'priority'" in str(error)


@pytest.mark.parametrize("document", [[], "text", 5, None, True, [STRUCTURED]])
def test_json_of_another_shape_is_refused(document: object) -> None:
    assert "must be a JSON object" in str(refusal(document))


def test_a_batch_of_events_is_refused() -> None:
    headers = {"content-type": "application/cloudevents-batch+json"}
    assert "one by one" in str(refusal([STRUCTURED], headers))


_texts = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=40)
_times = st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1))  # noqa: DTZ001
_events = st.builds(
    Event,
    id=_texts,
    source=_texts,
    job_type=_texts,
    data=st.dictionaries(st.text(st.characters(exclude_characters="\0", codec="utf-8")), _texts),
    subject=st.none() | _texts,
    time=st.none() | _times,
    priority=st.integers(0, 9),
    not_before=st.none() | _times,
    expires=st.none() | _times,
    tenant=st.none() | _texts,
    correlation_id=st.none() | _texts,
)


@given(event=_events, mode=st.sampled_from(["structured", "binary"]))
def test_what_is_encoded_is_decoded(event: Event, mode: Literal["structured", "binary"]) -> None:
    body, headers = encode(event, mode)
    assert decode(body, headers, origin=ORIGIN, limits=LIMITS) == event


@given(body=st.binary(max_size=200))
def test_any_bytes_are_an_event_or_a_refusal(body: bytes) -> None:
    with suppress(EnvelopeError):
        assert decode(body, {}, origin=ORIGIN, limits=LIMITS).source == ORIGIN.source
