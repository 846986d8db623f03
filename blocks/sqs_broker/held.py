"""What a session holds, until when, and what it knows beyond what SQS counts."""

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from blocks.errors import LeaseLostError
from blocks.message import Delivery
from blocks.sqs_broker.names import Names
from blocks.sqs_broker.record import Record

_MOST_REMEMBERED: Final = 10_000


@dataclass(slots=True, eq=False)
class Receipt:
    """One delivery at SQS."""

    names: Names
    #: SQS's own id of the message, which a copy doesn't share.
    message_id: str
    handle: str
    #: What was received.
    record: Record
    group: str | None
    #: By the monotonic clock of this process; SQS's own end isn't earlier.
    deadline: float
    count: int

    @property
    def left(self) -> float:
        """Seconds until the lease ends."""
        return self.deadline - time.monotonic()


class Held:
    """The deliveries that this session has not settled.

    Whether a lease has ended is told by this clock and not by SQS: a standard queue accepts the
    handle of an earlier receive, and may delete what somebody else holds.
    """

    def __init__(self) -> None:
        self._deliveries: dict[int, tuple[Receipt, Delivery]] = {}
        #: Releases that SQS has counted, by its message id.
        self._uncounted: OrderedDict[str, int] = OrderedDict()
        #: Message ids at SQS, or tokens of what was sent, that aren't due → until when.
        self._hidden: dict[tuple[str, str], float] = {}
        self._sent_ahead: dict[tuple[str, str], float] = {}

    def take(self, delivery: Delivery) -> None:
        """Note that a delivery is held."""
        receipt = delivery.receipt
        assert isinstance(receipt, Receipt)
        self._deliveries[id(receipt)] = receipt, delivery

    def drop(self, receipt: Receipt) -> None:
        """Note that it is held no more."""
        self._deliveries.pop(id(receipt), None)

    def receipt_of(self, delivery: Delivery) -> Receipt:
        """Find the receipt of what is held.

        Raises:
            LeaseLostError: It isn't held, or its lease has ended.
        """
        receipt = delivery.receipt
        if (
            not isinstance(receipt, Receipt)
            or id(receipt) not in self._deliveries
            or receipt.left <= 0
        ):
            if isinstance(receipt, Receipt):
                self.drop(receipt)
            raise lost(delivery)
        return receipt

    @property
    def deliveries(self) -> list[Delivery]:
        """Everything that is held."""
        return [delivery for _, delivery in self._deliveries.values()]

    def uncounted(self, message_id: str) -> int:
        """How many deliveries of those that SQS has counted don't count."""
        return self._uncounted.get(message_id, 0)

    def discount(self, message_id: str) -> None:
        """Remember that one delivery of a message doesn't count."""
        self._uncounted[message_id] = self.uncounted(message_id) + 1
        self._uncounted.move_to_end(message_id)
        while len(self._uncounted) > _MOST_REMEMBERED:
            self._uncounted.popitem(last=False)

    def hide(self, receipt: Receipt, seconds: float) -> None:
        """Remember that a message waits for its time behind its visibility time-out."""
        main = receipt.names.main
        self._sent_ahead.pop((main, receipt.record.id), None)
        self._hidden[main, receipt.message_id] = time.monotonic() + seconds

    def send_ahead(self, names: Names, message_id: str, seconds: float) -> None:
        """Remember that a message was sent, and isn't due yet."""
        self._sent_ahead[names.main, message_id] = time.monotonic() + seconds

    def waiting(self, names: Names) -> tuple[int, int]:
        """How many that SQS counts as ready, and as in flight, only wait for their time."""
        return _count(self._sent_ahead, names.main), _count(self._hidden, names.main)


def lost(delivery: Delivery) -> LeaseLostError:
    """The error for a delivery that isn't held any more."""
    return LeaseLostError(
        f"message {delivery.id} of queue {delivery.queue!r} is no longer held by this session; "
        "its lease has ended, or it was settled before"
    )


def _count(until: dict[tuple[str, str], float], name: str) -> int:
    now = time.monotonic()
    for key in [key for key, end in until.items() if end <= now]:
        del until[key]
    return sum(key[0] == name for key in until)
