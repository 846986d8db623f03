"""The labels by which a run knows the message it came from: what isn't payload travels here."""

from typing import Final

#: Goes into every effect of the job; the same over retries, redeliveries and reruns.
DELIVERY_ID: Final = "noa.delivery-id"
#: The event's own id, or the broker's coordinates where it had none.
MESSAGE_ID: Final = "noa.message-id"
#: The event's source, or the broker's address where it had none.
SOURCE: Final = "noa.source"
ROUTE: Final = "noa.route"
PROVIDER: Final = "noa.provider"
#: The broker's block or URL, as the consumer was given it; empty for the configured one.
BROKER: Final = "noa.broker"
QUEUE: Final = "noa.queue"
GENERATION: Final = "noa.generation"
#: A reference to a payload too large for Prefect's parameters.
DATAREF: Final = "noa.dataref"
CORRELATION_ID: Final = "noa.correlation-id"
CAUSATION_ID: Final = "noa.causation-id"
TENANT: Final = "noa.tenant"
REPLY_TO: Final = "noa.reply-to"
#: Prefect's own label for the trace that a run goes on with.
TRACEPARENT: Final = "__OTEL_TRACEPARENT"
