"""An order: a message that has become a run to create, complete but for Prefect's answer."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from blocks.message import Band, Delivery


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
    band: Band
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


def work_queue(band: Band) -> str:
    """The work queue that the runs of a band wait in: high, normal or low."""
    return band.name.lower()
