"""Settling: what is moved is published and confirmed first, and acknowledged after that.

A crash between the two leaves a copy under the same id, never a loss. Only what the broker can do
in one step is left to it: on a quorum queue to deliver again and count, on a classic queue to
deliver again without counting.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from blocks.errors import BrokerError, LeaseLostError
from blocks.message import (
    Dead,
    Delivery,
    Done,
    Outcome,
    Release,
    Retry,
    Settled,
)
from blocks.rabbitmq_broker.delay_ladder import LONGEST_DELAY
from blocks.rabbitmq_broker.outgoing import encode_again, encode_dead
from blocks.rabbitmq_broker.publisher import Parcel
from blocks.rabbitmq_broker.reader import Reader, Receipt
from blocks.rabbitmq_broker.sender import Sender


@dataclass(slots=True)
class _Case:
    """One outcome on its way."""

    outcome: Outcome
    receipt: Receipt
    #: What has to be published before it is acknowledged.
    parcel: Parcel | None = None
    #: The broker requeues it instead.
    goes_back: bool = False
    error: BrokerError | None = None


class Settler:
    """Carries out verdicts."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def settle(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        """Carry out all; an outcome whose publishing fails is still held, with the error."""
        claimed = await _claim(outcomes)
        try:
            await self._publish(list(claimed.values()))
        except BaseException:
            for case in claimed.values():
                case.error = case.error or BrokerError("interrupted")
            raise
        finally:
            await _finish(claimed.values())
        return [
            Settled(delivery=outcome.delivery, error=claimed[place].error)
            if place in claimed
            else Settled(delivery=outcome.delivery, error=lost(outcome.delivery))
            for place, outcome in enumerate(outcomes)
        ]

    async def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Release all that are still held."""
        await self.settle([Outcome(delivery, Release()) for delivery in deliveries])

    async def _publish(self, cases: Sequence[_Case]) -> None:
        for case in cases:
            try:
                await self._plan(case)
            except BrokerError as error:
                case.error = error
        moved = [case for case in cases if case.parcel is not None and case.error is None]
        errors = await self._sender.send([case.parcel for case in moved if case.parcel is not None])
        for case, error in zip(moved, errors, strict=True):
            case.error = error

    async def _plan(self, case: _Case) -> None:
        delivery, prioritised = case.outcome.delivery, self._sender.prioritised
        match case.outcome.verdict:
            case Done():
                return
            case Retry(after) if not after and not prioritised:
                case.goes_back = True
            case Release(after) if not after and prioritised:
                case.goes_back = True
            case Retry(after):
                again = encode_again(
                    delivery, deliveries=delivery.deliveries, prioritised=prioritised
                )
                case.parcel = await self._sender.address(delivery.queue, again, after)
            case Release(after):
                again = encode_again(
                    delivery, deliveries=delivery.deliveries - 1, prioritised=prioritised
                )
                delay = min(after, LONGEST_DELAY)
                case.parcel = await self._sender.address(delivery.queue, again, delay)
            case Dead() as verdict:
                letter = encode_dead(delivery, verdict, prioritised=prioritised)
                case.parcel = self._sender.address_dead(delivery.queue, letter)


async def _claim(outcomes: Sequence[Outcome]) -> dict[int, _Case]:
    cases: dict[int, _Case] = {}
    for reader, places in by_reader(outcome.delivery for outcome in outcomes).items():
        # Of two verdicts on one delivery the first one counts.
        first: dict[int, int] = {}
        for place, receipt in places.items():
            first.setdefault(receipt.tag, place)
        for tag in await reader.claim(first.keys()) if reader.is_open else ():
            place = first[tag]
            cases[place] = _Case(outcomes[place], places[place])
    return cases


async def _finish(cases: Iterable[_Case]) -> None:
    by_its_reader: defaultdict[Reader, list[_Case]] = defaultdict(list)
    for case in cases:
        by_its_reader[case.receipt.reader].append(case)
    for reader, group in by_its_reader.items():
        good = [case for case in group if case.error is None]
        try:
            await reader.finish(
                done=[case.receipt.tag for case in good if not case.goes_back],
                back=[case.receipt.tag for case in good if case.goes_back],
                kept=[case.receipt.tag for case in group if case.error is not None],
            )
        except BrokerError as error:
            for case in good:
                case.error = error


def by_reader(deliveries: Iterable[Delivery]) -> Mapping[Reader, dict[int, Receipt]]:
    """Places and receipts of the deliveries of each reader; of other providers there are none."""
    places: defaultdict[Reader, dict[int, Receipt]] = defaultdict(dict)
    for place, delivery in enumerate(deliveries):
        if isinstance(delivery.receipt, Receipt):
            places[delivery.receipt.reader][place] = delivery.receipt
    return places


def lost(delivery: Delivery) -> LeaseLostError:
    """Say that a delivery is no longer this session's."""
    return LeaseLostError(
        f"message {delivery.id} of queue {delivery.queue!r} is no longer held by this session; its "
        "lease has ended, its connection broke, or it was settled before"
    )
