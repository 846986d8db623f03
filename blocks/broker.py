"""The contract of a provider: a block that holds the configuration, a session that is live.

A broker knows bytes and headers only. Encoding, routing, retry policy and telemetry live above, so
that every provider has them alike, and a message that nobody can parse can still be dead-lettered.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol, Self

from prefect.blocks.core import Block
from pydantic import Field

from blocks.capabilities import Capabilities
from blocks.message import Band, DeadLetter, Delivery, Depth, Message, Outcome, Published, Settled


class Session(Protocol):
    """A live connection to a broker. One task at a time may receive; settling may run beside it.

    Ten calls, since a queue needs them all: seven for messages, two for dead letters, one to count.
    What only some providers can do is told by their `Capabilities`, and refused elsewhere.

    Every call raises `BrokerUnavailableError` while the broker can't be reached and
    `BrokerRefusedError` where it says no; a session is good again as soon as the broker is.
    """

    async def declare(self, queue: str) -> None:
        """Make sure that the queue exists, or raise where it doesn't and may not be made."""
        ...

    async def subscribe(self, queue: str, topic: str) -> None:
        """Let everything that is broadcast to `topic` from now on come to `queue` as well.

        The subscription outlasts the session. A consumer calls it each time it begins, after
        `declare`: doing it again changes nothing. A pattern, such as `orders.*.eu` or `orders.#`,
        needs `topic_patterns`.
        """
        ...

    async def broadcast(self, topic: str, messages: Sequence[Message]) -> Sequence[Published]:
        """Publish a copy of each message for each queue that has subscribed to the topic.

        The outcomes are like those of `publish`; every copy is delivered under the same id. Without
        a subscriber nothing is kept, and nothing is wrong.
        """
        ...

    async def publish(self, queue: str, messages: Sequence[Message]) -> Sequence[Published]:
        """Publish durably, and return one outcome a message, in order.

        A message that can't be held (too large, a priority out of range) has its error in its own
        outcome, and its neighbours are published.
        """
        ...

    async def receive(
        self, queue: str, *, max_messages: int, wait: timedelta, lowest: Band = Band.LOW
    ) -> Sequence[Delivery]:
        """Take up to `max_messages`; wait at most `wait` for the first one, then return at once.

        Messages whose holder's lease has ended come first. Those of a band below `lowest` are left
        in the queue, whoever held them.
        """
        ...

    async def settle(self, outcomes: Sequence[Outcome]) -> Sequence[Settled]:
        """Carry out the verdicts, and return what became of each, in order."""
        ...

    async def renew(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Extend the leases by the block's lease time, and return those that are still held."""
        ...

    async def depth(self, queue: str) -> Depth:
        """Count what the queue holds."""
        ...

    def browse_dead(self, queue: str) -> AsyncIterator[DeadLetter]:
        """Walk over the dead letters, oldest first, leaving them where they are."""
        ...

    async def settle_dead(self, queue: str, fates: Mapping[str, Message | None]) -> Sequence[str]:
        """Redrive or discard dead letters: handle → the message to publish again, or None.

        Each is removed and published in one step. Returns the handles that were there.
        """
        ...


class Broker(Block, ABC):
    """Where to find a broker and how to log in. Configuration only: `connect` makes it live.

    Example:
        >>> async with EmbeddedBroker(path="queue.db").connect() as session:
        ...     await session.publish("jobs", [Message(body=b"{}")])
    """

    lease_seconds: float = Field(
        default=30.0,
        ge=1.0,
        le=43_200.0,
        description="How long a message is held without being settled or renewed, in seconds.",
    )

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this broker can do; it may depend on the block's fields."""

    @classmethod
    @abstractmethod
    def variants(cls) -> Mapping[str, Self]:
        """Blocks that differ in what they can do, by the name that the documentation gives them."""

    @property
    def lease(self) -> timedelta:
        """How long a delivery is held without being settled or renewed."""
        return timedelta(seconds=self.lease_seconds)

    @classmethod
    @abstractmethod
    def from_url(cls, url: str) -> "Broker":
        """Build the block from a URL such as `redis://host:6379/0`."""

    @property
    @abstractmethod
    def address(self) -> str:
        """Where the broker is, without credentials; it goes into logs and event sources."""

    @abstractmethod
    def connect(self) -> AbstractAsyncContextManager[Session]:
        """Open a session.

        Raises:
            BrokerUnavailableError: Nobody answers at the address.
            BrokerRefusedError: The credentials are wrong, or don't allow it.
        """
