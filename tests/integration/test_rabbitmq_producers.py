"""Producers in Node.js, who know RabbitMQ and CloudEvents, and nothing of this package."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from blocks.broker import Session
from blocks.message import Band, Dead, Delivery, Outcome, Retry
from blocks.rabbitmq_broker import RabbitMQBroker
from noa_flows.bridge.intake import Intake
from noa_flows.bridge.order import Order
from noa_flows.bridge.route import Route
from noa_flows.labels import CORRELATION_ID, MESSAGE_ID, REPLY_TO, SOURCE, TENANT
from noa_flows.strict_json import JsonLimits
from tests.servers.node import produce

WAIT = timedelta(seconds=5)
AT_ONCE = timedelta(0)
WEBHOOK = {
    "url": "https://hooks.example.com/orders",
    "method": "POST",
    "headers": {"X-Shop": "eu"},
    "body": {"orderId": 17, "lineItems": [{"unitPrice": 9.5}]},
    "retries": 3,
    "timeout": 5_000,
    "expectedResponse": {"status": [200], "jsonSchema": {"minProperties": 1}},
}
#: What the job is given of it: names inside `headers`, `body` and the schema are the receiver's.
PARAMETERS = {name: value for name, value in WEBHOOK.items() if name != "expectedResponse"} | {
    "expected_response": {"status": [200], "json_schema": {"minProperties": 1}}
}
REPORT = {
    "type": "csv",
    "data": [{"orderId": 1, "unitPrice": 9.5}],
    "template": "monthly-report",
}
EVENT = {
    "id": "order-17",
    "source": "/shop/eu",
    "type": "noa.job.webhook",
    "subject": "order 17",
    "time": "2027-01-02T03:04:05.000Z",
    "datacontenttype": "application/json",
    "data": WEBHOOK,
    "priority": 1,
    "tenant": "acme",
    "correlationid": "c-9",
    "replyto": "answers",
}


@pytest.fixture(params=["quorum", "classic"])
def queue_type(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def queue() -> str:
    return f"orders-{uuid4().hex}"


@pytest.fixture
async def session(rabbitmq_url: str, queue: str, queue_type: str) -> AsyncIterator[Session]:
    broker = RabbitMQBroker.from_url(f"{rabbitmq_url}?queue_type={queue_type}")
    async with broker.connect() as session:
        await session.declare(queue)
        yield session


async def take(session: Session, queue: str, count: int) -> list[Delivery]:
    taken: list[Delivery] = []
    while len(taken) < count:
        held = await session.receive(queue, max_messages=count - len(taken), wait=WAIT)
        assert held
        taken += held
    return taken


def order_of(delivery: Delivery) -> Order:
    """What the bridge makes of a delivery."""
    route = Route(
        name=delivery.queue,
        provider="rabbitmq-broker",
        address="amqp://localhost:5672/",
        queue=delivery.queue,
        jobs=frozenset({"webhook", "report"}),
    )
    limits = JsonLimits(max_body_bytes=1_000_000, max_nesting=64)
    read = Intake(route, limits=limits, max_deliveries=10).read(delivery)
    assert isinstance(read, Order), read
    return read


async def test_plain_json_becomes_a_run(rabbitmq_url: str, session: Session, queue: str):
    options = {"messageId": "m-1", "contentType": "application/json", "timestamp": 1_700_000_000}
    body = {"type": "report", "data": REPORT}
    messages = [
        {"mode": "plain", "body": body, "options": {**options, "priority": 9}},
        {"mode": "plain", "body": body},
    ]
    assert await produce("rabbitmq.js", url=rabbitmq_url, queue=queue, messages=messages) == 2
    arrived = {one.id: one for one in await take(session, queue, 2)}
    known = arrived.pop("m-1")
    [unknown] = arrived.values()
    assert known.published_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    for delivery in (known, unknown):
        order = order_of(delivery)
        assert order.deployment == "report/report"
        assert order.parameters == REPORT
        assert order.labels[MESSAGE_ID] == delivery.id
    assert order_of(known).key != order_of(unknown).key


@pytest.mark.parametrize(
    ("mode", "prefix"),
    [("structured", ""), ("binary", "cloudEvents_"), ("binary", "cloudEvents:")],
    ids=["structured", "binary", "binary of old"],
)
async def test_a_cloud_event_becomes_a_run_and_stays_the_same_one_when_it_is_retried(
    rabbitmq_url: str, session: Session, queue: str, mode: str, prefix: str
):
    message = {"mode": mode, "event": EVENT, "prefix": prefix}
    await produce("rabbitmq.js", url=rabbitmq_url, queue=queue, messages=[message])
    [first] = await take(session, queue, 1)
    order = order_of(first)
    assert (order.deployment, order.name) == ("webhook/webhook", "webhook-order 17")
    assert order.parameters == PARAMETERS
    assert order.band is Band.HIGH
    labels = {
        MESSAGE_ID: "order-17",
        SOURCE: "/shop/eu",
        TENANT: "acme",
        CORRELATION_ID: "c-9",
        REPLY_TO: "answers",
    }
    assert labels.items() <= order.labels.items()
    for delay in (AT_ONCE, timedelta(milliseconds=100)):
        await session.settle([Outcome(first, Retry(delay))])
        [again] = await take(session, queue, 1)
        assert (order_of(again).key, order_of(again).parameters) == (order.key, PARAMETERS)
        assert (again.headers, again.body) == (first.headers, first.body)
        first = again


async def test_headers_of_every_type_are_taken_as_text_and_disturb_nothing(
    rabbitmq_url: str, session: Session, queue: str
):
    plain = {"mode": "plain", "body": {"type": "report", "data": REPORT}}
    messages: list[dict[str, Any]] = [{"mode": "odd"}, plain]
    await produce("rabbitmq.js", url=rabbitmq_url, queue=queue, messages=messages)
    odd, neighbour = await take(session, queue, 2)
    assert order_of(neighbour).parameters == REPORT
    expected = {
        "half": "1.5",
        "small": "-3",
        "price": "19.99",
        "huge": str(2**53 - 1),
        "yes": "true",
        "nothing": "",
        "late": str(2**53 - 1),
        "then": "2023-11-14T22:13:20Z",
        "bytes": "\ufffd\x00A",
        "Ünïcode name": "Zoë",
        "nested": '{"deep": {"deeper": [1, "two", [null, true]]}, "when": "1970-01-01T00:00:00Z"}',
        "list": '[1, {"a": "b"}]',
        "": "without a name",
    }
    assert odd.headers == expected
    assert abs(datetime.now(UTC) - odd.published_at) < timedelta(minutes=1)
    await session.settle([Outcome(odd, Retry(AT_ONCE))])
    [again] = await take(session, queue, 1)
    assert again.headers == expected
    dead = Dead(reason="schema", error="what is this")
    [settled] = await session.settle([Outcome(again, dead)])
    assert settled.error is None
    [letter] = [letter async for letter in session.browse_dead(queue)]
    assert (letter.headers, letter.body, letter.deliveries) == (expected, b"odd", 2)
