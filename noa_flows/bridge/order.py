"""An order: a message that has become a run to create, complete but for Prefect's answer."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from blocks.message import Delivery


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A run to create."""

    delivery: Delivery
    #: `flow/deployment`.
    deployment: str
    #: The run's idempotency key.
    key: str
    #: The run's name in Prefect's UI.
    name: str
    #: The payload, in snake case, otherwise as it was sent.
    parameters: Mapping[str, Any]
    labels: Mapping[str, str | int]
    tags: tuple[str, ...]
    #: The work queue of the message's priority: high, normal or low.
    band: str
    #: Not started before; None for at once.
    not_before: datetime | None


def run_key(*, route: str, deployment: str, source: str, message_id: str, generation: int) -> str:
    """Name the one run that a message has, the same whoever hands it over and how often.

    Returns:
        The SHA-256 of the five parts as hexadecimal digits. A redrive raises the generation, since
        it would otherwise only find the old run.
    """
    parts = json.dumps([route, deployment, source, message_id, generation])
    return hashlib.sha256(parts.encode()).hexdigest()


def priority_band(priority: int) -> str:
    """The work queue for a priority: 0 to 2 is `high`, 3 to 6 `normal`, 7 to 9 `low`."""
    if priority <= 2:  # noqa: PLR2004 — the bands are defined here
        return "high"
    return "normal" if priority <= 6 else "low"  # noqa: PLR2004
