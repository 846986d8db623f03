"""Filters of a route: which events pass, and what is wrong with a filter that can't be read."""

from typing import Any

import pytest

from noa_flows.bridge.event_filter import EventFilter
from noa_flows.envelope import Origin, decode
from noa_flows.errors import ConfigurationError
from noa_flows.event import Event
from noa_flows.strict_json import JsonLimits, dump_json

EVENT = Event(
    id="e-1",
    source="/shop/eu",
    job_type="report",
    subject="order 17",
    tenant="acme",
    data={"region": "EU", "amount": 120, "paid": True, "lines": [1], "customer": {"tier": "gold"}},
    extensions={"channel": "web"},
)
HEADERS = {"X-Trace.Id": "t-1"}


def accepts(*filters: dict[str, Any], event: Event = EVENT) -> bool:
    return EventFilter(filters).accepts(event, HEADERS)


def test_without_a_filter_everything_passes() -> None:
    assert accepts()


@pytest.mark.parametrize(
    ("one", "passes"),
    [
        ({"exact": {"type": "noa.job.report"}}, True),
        ({"exact": {"type": "noa.job.email"}}, False),
        ({"exact": {"type": "noa.job.report", "tenant": "other"}}, False),
        ({"exact": {"channel": "web"}}, True),
        ({"exact": {"correlationid": "x"}}, False),
        ({"exact": {"priority": 4}}, True),
        ({"exact": {"data.region": "EU"}}, True),
        ({"exact": {"data.customer.tier": "gold"}}, True),
        ({"exact": {"data.customer.tier.x": "gold"}}, False),
        ({"exact": {"data.paid": True}}, True),
        ({"exact": {"data.paid": 1}}, False),
        ({"exact": {"data.amount": 120.0}}, True),
        ({"exact": {"data.missing": None}}, False),
        ({"exact": {"headers.x-trace.id": "t-1"}}, True),
        ({"exact": {"headers.other": "t-1"}}, False),
        ({"prefix": {"subject": "order "}}, True),
        ({"prefix": {"subject": "17"}}, False),
        ({"prefix": {"data.amount": "1"}}, False),
        ({"suffix": {"source": "/eu"}}, True),
        ({"suffix": {"source": "/us"}}, False),
        ({"all": [{"exact": {"data.region": "EU"}}, {"exact": {"tenant": "acme"}}]}, True),
        ({"all": [{"exact": {"data.region": "EU"}}, {"exact": {"tenant": "x"}}]}, False),
        ({"any": [{"exact": {"data.region": "US"}}, {"exact": {"tenant": "acme"}}]}, True),
        ({"any": [{"exact": {"data.region": "US"}}, {"exact": {"tenant": "x"}}]}, False),
        ({"not": {"exact": {"data.region": "US"}}}, True),
        ({"not": {"exact": {"data.region": "EU"}}}, False),
        ({"schema": {"properties": {"amount": {"minimum": 100}}, "required": ["amount"]}}, True),
        ({"schema": {"properties": {"amount": {"maximum": 100}}}}, False),
    ],
)
def test_each_dialect_says_what_passes(one: dict[str, Any], passes: bool) -> None:
    assert accepts(one) is passes


def test_several_filters_have_to_be_passed_all() -> None:
    assert not accepts({"exact": {"tenant": "acme"}}, {"exact": {"data.region": "US"}})


@pytest.mark.parametrize(
    ("one", "says"),
    [
        ({}, r"filters\[0\]: must be an object with one key"),
        ({"exact": {"a": 1}, "not": {}}, r"one key, the dialect: exact, prefix"),
        ({"exakt": {"a": 1}}, r"filters\[0\]: unknown dialect 'exakt'; did you mean 'exact'\?"),
        ({"exact": {}}, r"filters\[0\]\.exact: must be an object of names and values"),
        ({"prefix": {"subject": 1}}, r"filters\[0\]\.prefix\.subject: must be a text"),
        ({"prefix": {"subject": ""}}, r"filters\[0\]\.prefix\.subject: must be a text"),
        ({"all": []}, r"filters\[0\]\.all: must be a list of filters"),
        ({"any": [{"exact": {"a": 1}}, {"no": 1}]}, r"filters\[0\]\.any\[1\]: unknown dialect"),
        ({"not": []}, r"filters\[0\]\.not: must be an object with one key"),
        ({"schema": {"type": "nothing"}}, r"filters\[0\]\.schema: not a JSON Schema"),
        ({"schema": {"$ref": "http://127.0.0.1:1/s.json"}}, r"outside the schema.*never fetched"),
        ({"schema": 5}, r"filters\[0\]\.schema: must be an object"),
    ],
)
def test_a_filter_that_cannot_be_read_names_its_place(one: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        EventFilter([one])


def test_extension_attributes_of_a_message_can_be_filtered_by() -> None:
    body = dump_json(
        {
            "specversion": "1.0",
            "id": "e-2",
            "source": "/shop",
            "type": "noa.job.noop",
            "channel": "app",
            "data": {},
        }
    )
    limits = JsonLimits(max_body_bytes=1000, max_nesting=8)
    event = decode(body, {}, origin=Origin(id="m", source="q"), limits=limits)
    assert accepts({"exact": {"channel": "app"}}, event=event)
    assert not accepts({"exact": {"channel": "web"}}, event=event)
