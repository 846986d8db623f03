"""Producers in Node.js: `@aws-sdk/client-sqs`, and the `cloudevents` SDK. On an emulator (fauxqs).

SQS has no binding of CloudEvents. An event in structured mode needs none; one in binary mode has
its attributes in message attributes, under the names of the HTTP binding. Amazon was never asked.
"""

from typing import Any
from uuid import uuid4

import pytest

from blocks.message import Delivery, Done
from blocks.sqs_broker import SqsBroker
from noa_flows.bridge.intake import Intake
from noa_flows.bridge.order import Order
from noa_flows.bridge.route import Route
from noa_flows.strict_json import JsonLimits
from tests.conformance.moves import settle, take
from tests.servers.fauxqs_server import REGION
from tests.servers.node import produce

WEBHOOK = {
    "url": "https://hooks.example.com/orders",
    "method": "POST",
    "headers": {"X-Order-Id": "7"},
    "body": {"orderId": 7, "city": "Zürich"},
    "timeout": 2_500,
    "expectedResponse": {"status": [201]},
}
REPORT = {
    "type": "csv",
    "data": [{"unitPrice": 9.5, "city": "Zürich"}, {"unitPrice": 3, "city": "Łódź"}],
    "template": "monthly-report",
}
EVENT = {
    "id": "order-7",
    "source": "/shop/node",
    "type": "noa.job.webhook",
    "subject": "order 7",
    "time": "2027-01-31T09:00:00Z",
    "datacontenttype": "application/json",
    "tenant": "acme",
    "priority": 1,
    "data": WEBHOOK,
}


@pytest.fixture(params=["standard", "FIFO"])
def broker(request: pytest.FixtureRequest, sqs_endpoint: str) -> SqsBroker:
    fifo = "&fifo=true" if request.param == "FIFO" else ""
    return SqsBroker.from_url(f"sqs://test:test@{REGION}?endpoint={sqs_endpoint}{fifo}")


async def deliver(broker: SqsBroker, *messages: dict[str, Any]) -> list[Delivery]:
    """Let Node.js send the messages, and take them."""
    queue = f"orders-{uuid4().hex}"
    async with broker.connect() as session:
        await session.declare(queue)
        ids = await produce(
            "sqs.js",
            endpoint=broker.endpoint,
            region=REGION,
            queue=f"{queue}.fifo" if broker.fifo else queue,
            group="shop" if broker.fifo else None,
            messages=messages,
        )
        taken: list[Delivery] = []
        for _ in messages:
            # On a FIFO queue the next of the group comes when the last is done.
            taken += await take(session, queue, 1)
            await settle(session, Done(), taken[-1])
    by_id = {one.id: one for one in taken}
    return [by_id[message_id] for message_id in ids]


def read(delivery: Delivery) -> Order:
    """What the bridge makes of a delivery."""
    route = Route(
        name="orders",
        provider="sqs-broker",
        address="sqs://eu-central-1",
        queue=delivery.queue,
        jobs=frozenset({"report", "webhook"}),
    )
    limits = JsonLimits(max_body_bytes=1_000_000, max_nesting=64)
    order = Intake(route, limits=limits, max_deliveries=3).read(delivery)
    assert isinstance(order, Order), order
    return order


async def test_plain_json_of_an_existing_producer_becomes_an_order(broker: SqsBroker):
    messages = [{"type": "webhook", "data": WEBHOOK}, {"type": "report", "data": REPORT}]
    webhook, report = await deliver(
        broker, *({"mode": "plain", "body": message} for message in messages)
    )
    order = read(webhook)
    assert order.deployment == "webhook/webhook"
    assert order.parameters["expected_response"] == {"status": [201]}
    assert order.parameters["body"] == WEBHOOK["body"]
    assert order.labels["noa.message-id"] == webhook.id
    assert read(report).parameters == REPORT
    assert {webhook.key, report.key} == {"shop" if broker.fifo else None}


@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_a_cloudevent_becomes_an_order_in_either_mode(broker: SqsBroker, mode: str):
    [delivery] = await deliver(broker, {"mode": mode, "event": EVENT})
    order = read(delivery)
    assert order.deployment == "webhook/webhook"
    assert order.name == "webhook-order 7"
    assert (order.band.name, order.labels["noa.message-id"]) == ("HIGH", "order-7")
    assert order.labels["noa.source"] == "/shop/node"
    assert "tenant:acme" in order.tags
    assert order.parameters["expected_response"] == {"status": [201]}
    assert order.parameters["body"] == WEBHOOK["body"]
