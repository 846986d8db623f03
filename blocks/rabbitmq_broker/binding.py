"""A binding: what an exchange hands on to a queue."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Binding(BaseModel):
    """An exchange that feeds a queue, beside what is published to the queue itself.

    Example:
        >>> Binding(queue="mails", exchange="shop", exchange_type="topic", routing_key="order.#")
        Binding(queue='mails', exchange='shop', exchange_type='topic', routing_key='order.#', ...)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    queue: str = Field(min_length=1, description="The queue that is fed.")
    exchange: str = Field(min_length=1, max_length=255, description="Name of the exchange.")
    exchange_type: Literal["direct", "topic", "fanout", "headers"] = Field(
        default="direct", description="How the exchange chooses."
    )
    routing_key: str = Field(
        default="",
        max_length=255,
        description="What `direct` compares, and `topic` matches; of no meaning to the others.",
    )
    arguments: dict[str, str | int | bool] = Field(
        default_factory=dict,
        description="What `headers` compares; `x-match` is `all` (default) or `any`.",
    )
