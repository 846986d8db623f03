"""Intake: a delivery becomes an order, or a refusal with reason and path."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from blocks.message import Band
from noa_flows.bridge.intake import INTERRUPTED_HEADER, Intake, Refusal
from noa_flows.bridge.order import Order
from noa_flows.labels import DELIVERY_ID, GENERATION, MESSAGE_ID, TENANT, TRACEPARENT
from noa_flows.strict_json import JsonLimits
from tests.unit.deliveries import ROUTE, delivery

NOW = datetime(2027, 1, 1, tzinfo=UTC)
INTAKE = Intake(
    ROUTE,
    limits=JsonLimits(max_body_bytes=1_000_000, max_nesting=64),
    max_deliveries=3,
    now=lambda: NOW,
)
EVENT = {
    "specversion": "1.0",
    "id": "e-1",
    "source": "/shop",
    "type": "noa.job.noop",
    "data": {"echo": 1},
}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def order(body: Any, **changes: Any) -> Order:
    read = INTAKE.read(delivery(body, **changes))
    assert isinstance(read, Order), read
    return read


def refusal(body: Any, **changes: Any) -> tuple[str, str]:
    read = INTAKE.read(delivery(body, **changes))
    assert isinstance(read, Refusal), read
    return read.error.reason, read.error.path


def test_an_event_becomes_an_order_that_says_where_it_came_from() -> None:
    made = order({**EVENT, "tenant": "acme", "traceparent": TRACE, "priority": 1})
    assert made.deployment == "noop/noop"
    assert made.name == "noop-e-1"
    assert made.parameters == {"echo": 1}
    assert made.band is Band.HIGH
    assert set(made.tags) == {"noa", "job:noop", "queue:jobs", "message:e-1", "tenant:acme"}
    assert made.labels[MESSAGE_ID] == "e-1"
    assert made.labels[TENANT] == "acme"
    assert made.labels[TRACEPARENT] == TRACE


def test_a_priority_is_the_event_s_own_or_else_the_broker_s() -> None:
    assert order(EVENT).band is Band.NORMAL
    assert order(EVENT, priority=9).band is Band.LOW
    assert order({**EVENT, "priority": 0}, priority=9).band is Band.HIGH


def test_a_subject_names_the_run() -> None:
    assert order({**EVENT, "subject": "order 17"}).name == "noop-order 17"


def test_the_key_is_that_of_the_event_however_it_arrives() -> None:
    first = order(EVENT, id="1-0", deliveries=1)
    again = order(EVENT, id="2-0", deliveries=3)
    assert first.key == again.key


def test_a_message_without_an_id_has_the_brokers() -> None:
    plain: dict[str, Any] = {"type": "noop", "data": {}}
    assert order(plain, id="1-0").key == order(plain, id="1-0").key
    assert order(plain, id="1-0").key != order(plain, id="2-0").key


def test_a_redrive_is_a_new_run_with_the_same_delivery_id() -> None:
    first, redriven = order(EVENT), order(EVENT, generation=1)
    assert first.key != redriven.key
    assert first.labels[DELIVERY_ID] == redriven.labels[DELIVERY_ID]
    assert redriven.labels[GENERATION] == 1


def test_two_routes_have_runs_of_their_own() -> None:
    other = Intake(
        replace(ROUTE, name="copy"),
        limits=JsonLimits(max_body_bytes=1000, max_nesting=8),
        max_deliveries=3,
    ).read(delivery(EVENT))
    assert isinstance(other, Order)
    assert other.key != order(EVENT).key


@pytest.mark.parametrize(
    ("change", "reason", "path"),
    [
        ({"type": "noa.job.nop"}, "unknown-type", "type"),
        ({"specversion": "0.3"}, "schema", "specversion"),
        ({"expirytime": "2026-12-31T23:59:59Z"}, "expired", "expirytime"),
        ({"data": {"ecko": 1}}, "schema", "data.ecko"),
        (
            {"type": "noa.job.report", "data": {"type": "pdf", "data": []}},
            "schema",
            "data.template",
        ),
        ({"type": "noa.job.webhook", "data": {"url": 5}}, "schema", "data.url"),
    ],
)
def test_what_cannot_become_a_run_is_refused_with_reason_and_path(
    change: dict[str, Any], reason: str, path: str
) -> None:
    assert refusal({**EVENT, **change}) == (reason, path)


def test_a_job_that_the_queue_may_not_start_is_forbidden() -> None:
    strict = Intake(
        replace(ROUTE, jobs=frozenset({"report"})),
        limits=JsonLimits(max_body_bytes=1000, max_nesting=8),
        max_deliveries=3,
    )
    read = strict.read(delivery(EVENT))
    assert isinstance(read, Refusal)
    assert read.error.reason == "forbidden"


def test_a_message_whose_run_was_interrupted_is_refused_and_names_the_run() -> None:
    read = INTAKE.read(delivery(EVENT, headers={INTERRUPTED_HEADER: "run-1"}))
    assert isinstance(read, Refusal)
    assert read.error.reason == "interrupted"
    assert "run-1" in str(read.error)


def test_a_message_that_kills_its_readers_is_refused_unread() -> None:
    assert refusal(b"\xff", deliveries=4) == ("too-many-deliveries", "")


def test_an_unknown_field_comes_with_a_suggestion() -> None:
    read = INTAKE.read(delivery({**EVENT, "data": {"ecko": 1}}))
    assert isinstance(read, Refusal)
    assert "'echo'" in str(read.error)
