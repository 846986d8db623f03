"""What travels through a broker: bytes, headers, and what became of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final

from blocks.errors import BrokerError

HIGHEST_PRIORITY: Final = 0
DEFAULT_PRIORITY: Final = 4
LOWEST_PRIORITY: Final = 9


class Band(IntEnum):
    """What the ten priorities amount to where only three are told apart.

    The value is the lowest priority in it.
    """

    HIGH = 2
    NORMAL = 6
    LOW = LOWEST_PRIORITY


def band_of(priority: int) -> Band:
    """The band of a priority: 0 to 2 is high, 3 to 6 normal, 7 to 9 low."""
    return next(band for band in Band if priority <= band)


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A message to publish.

    Example:
        >>> Message(body=b'{"type": "report"}', priority=0).body
        b'{"type": "report"}'
    """

    #: Any bytes, the empty string included.
    body: bytes
    #: Names are lower-case tokens; values are any text.
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    #: Messages of one key keep their order, where the provider's capabilities say so.
    key: str | None = None
    #: 0 is the highest, 9 the lowest.
    priority: int = DEFAULT_PRIORITY
    #: Not delivered before this much time has passed.
    delay: timedelta = timedelta(0)
    #: The identity to keep when something is published again; None for a new message.
    id: str | None = None
    #: How often it was delivered before it was published again.
    deliveries: int = 0
    #: How often it was brought back from the dead letters.
    generation: int = 0

    def __post_init__(self) -> None:
        if not HIGHEST_PRIORITY <= self.priority <= LOWEST_PRIORITY:
            raise ValueError(f"priority is {self.priority}; give 0 (highest) to 9 (lowest)")
        if self.delay < timedelta(0):
            raise ValueError(f"delay is {self.delay}; give zero or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What became of one published message: an id, or an error."""

    #: The broker's coordinates of the message: the `Delivery.id` that a consumer will see.
    id: str | None = None
    error: BrokerError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A message held by one consumer until it is settled, or until the lease ends."""

    queue: str
    #: The same for every delivery of this message, redelivered, retried and redriven.
    id: str
    body: bytes
    headers: Mapping[str, str]
    key: str | None
    priority: int
    #: 1 for the first delivery; the broker's own count plus what came before it was republished.
    deliveries: int
    generation: int
    published_at: datetime
    #: The provider's own handle of this very delivery.
    receipt: object = field(repr=False)


@dataclass(frozen=True, slots=True)
class Done:
    """The message has been taken care of; forget it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Deliver it again after a delay; this delivery counts."""

    after: timedelta


@dataclass(frozen=True, slots=True)
class Release:
    """Given back untouched; deliver it again, and don't count this delivery.

    With a delay the broker holds it that long, as far as its capabilities go.
    """

    after: timedelta = timedelta(0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Dead:
    """Move it to the dead letters.

    `reason` is one word of a fixed list (`schema`, `failed`, …), `error` the text for a person.
    """

    reason: str
    error: str
    #: The class of the error, for filters; empty where there was none.
    error_type: str = ""
    #: The flow run that failed with it; empty where there was none.
    run_id: str = ""


Verdict = Done | Retry | Release | Dead


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one delivery."""

    delivery: Delivery
    verdict: Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """What became of one outcome; `error` is a `LeaseLostError` where somebody else holds it."""

    delivery: Delivery
    error: BrokerError | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """A message that nobody will deliver again unless it is redriven."""

    #: The provider's handle of the dead letter, for `Session.settle_dead`.
    handle: str
    #: The id under which the message was delivered.
    id: str
    #: The block type slug of the provider, such as `redis-broker`.
    provider: str
    queue: str
    body: bytes
    headers: Mapping[str, str]
    key: str | None
    priority: int
    deliveries: int
    generation: int
    published_at: datetime
    died_at: datetime
    reason: str
    error: str
    error_type: str
    run_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Depth:
    """How much a queue holds now; some brokers count late, or guess."""

    #: Free to be taken now.
    ready: int
    #: Held: by any session where `Capabilities.sees_all_in_flight`, else by the one that asks.
    in_flight: int
    delayed: int
    dead: int
    #: Age of the oldest message that is ready or in flight; None for an empty queue, and where the
    #: capabilities say that it isn't told.
    oldest_age: timedelta | None


def utc_now() -> datetime:
    """Now, as every stamp in this package: aware, in UTC."""
    return datetime.now(UTC)
