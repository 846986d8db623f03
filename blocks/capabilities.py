"""What a provider can do, as data, and the table of the documentation that is made of it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any


class Order(StrEnum):
    """Among which ready messages of one priority the order of publishing is kept."""

    NONE = "none"
    #: Among those that have the same `Message.key`.
    KEY = "by key"
    #: Among all of a queue.
    QUEUE = "queue"


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What a broker can do: read it instead of trying and catching.

    What is False here is refused with `UnsupportedError`, never ignored; where there is nothing to
    refuse, the line says what is seen instead. Each field is marked on the tests of the conformance
    suite that stand behind it.
    """

    #: How many of the ten priorities are told apart: 10, 3 (high, normal, low), or 1 for none.
    priority_levels: int
    #: A receiver can leave the lower bands of priority in the queue.
    selects_band: bool
    #: Messages can be published with a delay, and retried after one.
    delay: bool
    #: Ready messages of one priority are delivered in the order they were published in.
    order: Order
    #: The dead letters can be browsed, redriven and discarded.
    dead_letters: bool
    #: Queues can subscribe to topics, and each gets its own copy of what is broadcast.
    topics: bool
    #: Subscriptions can be patterns: `*` stands for one word between dots, `#` for any number.
    topic_patterns: bool
    #: Several machines can share a queue.
    networked: bool
    #: The delivery count survives whatever happens to the consumer; else a death may go uncounted.
    counts_deliveries: bool
    #: `Depth.in_flight` counts what any session holds; else only what the asking session holds.
    sees_all_in_flight: bool
    #: `Depth.oldest_age` is told; else it is always None.
    tells_age: bool
    #: The largest body in bytes.
    max_body_bytes: int


def as_table(columns: Mapping[str, Capabilities]) -> str:
    """Write capabilities as a Markdown table: a row a field, a column a provider."""
    rows = [["", *columns], ["---"] * (len(columns) + 1)]
    for one in fields(Capabilities):
        cells = [_cell(one.name, getattr(column, one.name)) for column in columns.values()]
        rows.append([f"`{one.name}`", *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "max_body_bytes":
        return f"{value / 1024 / 1024:g} MiB" if value >= 1024 * 1024 else f"{value / 1024:g} KiB"
    return str(value)
