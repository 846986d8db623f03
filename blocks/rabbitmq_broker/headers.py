"""Names in a message's headers: ours, RabbitMQ's, and those of properties."""

from typing import Final

#: What AMQP has no place for; no header of anybody else may begin so.
OWN: Final = "noa:"
KEY: Final = "noa:key"
DELIVERIES: Final = "noa:deliveries"
GENERATION: Final = "noa:generation"
#: Microseconds since 1970, where the property `timestamp` has seconds.
PUBLISHED: Final = "noa:published"

HANDLE: Final = "noa:handle"
DEAD_PROVIDER: Final = "noa:dead-provider"
DEAD_QUEUE: Final = "noa:dead-queue"
#: Microseconds since 1970.
DEAD_AT: Final = "noa:dead-at"
DEAD_REASON: Final = "noa:dead-reason"
DEAD_ERROR: Final = "noa:dead-error"
DEAD_ERROR_TYPE: Final = "noa:dead-error-type"
DEAD_RUN_ID: Final = "noa:dead-run-id"

#: How often a quorum queue has delivered the message before.
DELIVERY_COUNT: Final = "x-delivery-count"
#: Where RabbitMQ has dead-lettered the message, and why.
DEATHS: Final = "x-death"

#: Header → the property that has it as its text.
PROPERTIES: Final = {
    "content-type": "content_type",
    "content-encoding": "content_encoding",
    "correlation-id": "correlation_id",
    "reply-to": "reply_to",
    "type": "type",
    "app-id": "app_id",
}

# The last two make RabbitMQ send copies.
_RABBITMQ: Final = frozenset({DEATHS, DELIVERY_COUNT, "CC", "BCC"})
_RESERVED: Final = (OWN, "x-first-death-", "x-last-death-")


def is_reserved(name: str) -> bool:
    """Whether a header is about this copy of the message, and isn't the publisher's."""
    return name in _RABBITMQ or name.startswith(_RESERVED)
