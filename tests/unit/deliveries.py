"""Deliveries and routes for tests of what happens above the brokers."""

import json
from datetime import UTC, datetime
from typing import Any

from blocks.message import DEFAULT_PRIORITY, Delivery
from noa_flows.bridge.route import Route

ROUTE = Route(
    name="jobs",
    provider="redis-broker",
    address="redis://localhost",
    queue="jobs",
    jobs=frozenset({"noop", "report", "webhook"}),
)


def delivery(body: Any = b"{}", **changes: Any) -> Delivery:
    fields: dict[str, Any] = {
        "queue": "jobs",
        "id": "m-1",
        "body": body if isinstance(body, bytes) else json.dumps(body).encode(),
        "headers": {},
        "key": None,
        "priority": DEFAULT_PRIORITY,
        "deliveries": 1,
        "generation": 0,
        "published_at": datetime(2027, 1, 1, tzinfo=UTC),
        "receipt": None,
    }
    return Delivery(**{**fields, **changes})
