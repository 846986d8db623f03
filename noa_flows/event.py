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
