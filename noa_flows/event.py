"""What a job message says: a CloudEvent 1.0, with the options of a job as extension attributes.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from blocks.message import DEFAULT_PRIORITY

SPEC_VERSION: Final = "1.0"
TYPE_PREFIX: Final = "noa.job."
#: Attribute name → field of `Event`, for the attributes that are plain text.
TEXT_ATTRIBUTES: Final = {
    "subject": "subject",
    "dedupkey": "dedup_key",
    "replyto": "reply_to",
    "tenant": "tenant",
    "partitionkey": "partition_key",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
    "correlationid": "correlation_id",
    "causationid": "causation_id",
    "sequence": "sequence",
}
#: The same for those that are times.
TIME_ATTRIBUTES: Final = {"time": "time", "notbefore": "not_before", "expirytime": "expires"}


@dataclass(frozen=True, kw_only=True)
class Event:
    """A job message, decoded.

    Example:
        >>> Event(source="/shop", job_type="report", data={"type": "pdf"}).priority
        4
    """

    id: str = field(default_factory=lambda: uuid4().hex)
    source: str
    #: The job type without the prefix, such as `report`.
    job_type: str
    #: The payload as it was sent.
    data: Mapping[str, Any]
    subject: str | None = None
    time: datetime | None = None
    #: 0 is the highest, 9 the lowest.
    priority: int = DEFAULT_PRIORITY
    #: Not started before.
    not_before: datetime | None = None
    #: Not started after.
    expires: datetime | None = None
    dedup_key: str | None = None
    reply_to: str | None = None
    tenant: str | None = None
    partition_key: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    sequence: str | None = None
    #: Extension attributes that are none of a job's options, as they were sent.
    extensions: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def attributes(self) -> dict[str, Any]:
        """The event's attributes under their CloudEvents names; those that aren't set are left out.

        Times are in RFC 3339.
        """
        attributes: dict[str, Any] = {
            **self.extensions,
            "specversion": SPEC_VERSION,
            "id": self.id,
            "source": self.source,
            "type": f"{TYPE_PREFIX}{self.job_type}",
            "priority": self.priority,
        }
        for name, attribute in TEXT_ATTRIBUTES.items():
            if (text := getattr(self, attribute)) is not None:
                attributes[name] = text
        for name, attribute in TIME_ATTRIBUTES.items():
            if (time := getattr(self, attribute)) is not None:
                attributes[name] = time.isoformat()
        return attributes
