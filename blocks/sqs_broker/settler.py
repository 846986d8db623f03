"""Verdicts: what is deleted, what is shown again in its place, and what goes on as a copy.

SQS counts every receive and forgets none, so what must not count goes on as a copy that carries the
count. On a FIFO queue a copy would come behind the other messages of its key: there the message
itself is shown again, and the session remembers that it doesn't count.
"""

import asyncio
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Final

from blocks.errors import (
    BrokerError,
    BrokerRefusedError,
    BrokerUnavailableError,
    LeaseLostError,
)
from blocks.message import Dead, Delivery, Done, Outcome, Release, Retry, Settled, Verdict, utc_now
from blocks.sqs_broker.held import Receipt
from blocks.sqs_broker.leases import Leases, Result
from blocks.sqs_broker.names import Names
from blocks.sqs_broker.payload_store import PayloadStore
from blocks.sqs_broker.record import DEAD, Record, milliseconds
from blocks.sqs_broker.sender import LONGEST_DELAY, Parcel, group_of
from blocks.sqs_broker.text import allowed

#: SQS hides nothing for longer than twelve hours from when it was received; leave some for that.
LONGEST_HIDDEN: Final = 41_400
_LONGEST_ERROR: Final = 2_000
_SAFE_SHARE: Final = 0.75


class _Plan(StrEnum):
    """What becomes of a message at SQS."""

    DELETE = "delete"
    HIDE = "hide"
    COPY = "copy"
    BURY = "bury"


@dataclass(frozen=True, slots=True)
class _Item:
    """A delivery that is held, and the verdict on it."""

    delivery: Delivery
    receipt: Receipt
    verdict: Verdict

    @property
    def after(self) -> timedelta:
        return self.verdict.after if isinstance(self.verdict, Retry | Release) else timedelta(0)

    @property
    def record(self) -> Record:
        """The message as it goes on, with the count of all deliveries before."""
        delivery = self.delivery
        return replace(
            self.receipt.record,
            id=delivery.id,
            headers=delivery.headers,
            key=delivery.key,
            deliveries=delivery.deliveries - isinstance(self.verdict, Release),
            generation=delivery.generation,
            published=delivery.published_at,
            due=None,
        )


class Settler:
    """The settling half of a session."""

    def __init__(self, leases: Leases, store: PayloadStore) -> None:
        self._leases = leases
        self._store = store

    async def settle(self, outcomes: Sequence[Outcome]) -> list[Settled]:
        """Carry out the verdicts, those of a kind together."""
        results: dict[int, Result] = {}
        plans: defaultdict[tuple[Names, _Plan], dict[int, _Item]] = defaultdict(dict)
        for place, outcome in enumerate(outcomes):
            try:
                receipt = self._leases.held.receipt_of(outcome.delivery)
            except LeaseLostError as error:
                results[place] = error
                continue
            item = _Item(outcome.delivery, receipt, outcome.verdict)
            plans[receipt.names, self._plan(item)][place] = item
        carried = (self._try(*kind, list(items.values())) for kind, items in plans.items())
        for items, answers in zip(plans.values(), await asyncio.gather(*carried), strict=True):
            results |= zip(items, answers, strict=True)
        errors = [results[place] for place in range(len(outcomes))]
        if errors and (failure := errors[0]) and all(map(_says_nothing, errors)):
            raise failure
        return [
            Settled(delivery=outcome.delivery, error=error)
            for outcome, error in zip(outcomes, errors, strict=True)
        ]

    async def postpone(self, delivery: Delivery, receipt: Receipt, seconds: int) -> None:
        """Put back, uncounted, what was published ahead of its time."""
        names = receipt.names
        if names.fifo:
            await self._leases.hide(names, [(receipt, min(seconds, LONGEST_HIDDEN))])
            return
        item = _Item(delivery, receipt, Release(timedelta(seconds=seconds)))
        await self._leases.move(names, names.main, [(receipt, _again(item))])

    async def _try(self, names: Names, plan: _Plan, items: list[_Item]) -> list[Result]:
        try:
            return await self._carry_out(names, plan, items)
        except BrokerError as error:
            return [error] * len(items)

    async def _carry_out(self, names: Names, plan: _Plan, items: list[_Item]) -> list[Result]:
        match plan:
            case _Plan.DELETE:
                results = await self._leases.delete(names, [one.receipt for one in items])
                await self._forget_payloads(items, results)
                return results
            case _Plan.HIDE:
                hidden = [(one.receipt, _seconds(one.after)) for one in items]
                results = await self._leases.hide(names, hidden)
            case _Plan.COPY:
                copies = [(one.receipt, _again(one)) for one in items]
                results = await self._leases.move(names, names.main, copies)
            case _Plan.BURY:
                letters = [(one.receipt, _letter(one)) for one in items]
                return await self._leases.move(names, names.dead, letters)
        self._remember(plan, items, results)
        return results

    def _plan(self, item: _Item) -> _Plan:
        fifo, verdict = item.receipt.names.fifo, item.verdict
        if isinstance(verdict, Done):
            return _Plan.DELETE
        if isinstance(verdict, Dead):
            return _Plan.BURY
        if isinstance(verdict, Retry):
            in_place = fifo or not item.after
        else:
            # The order of a key is kept, until SQS would soon take it for a message that kills.
            in_place = item.delivery.key is not None and fifo
            in_place &= item.receipt.count < self._leases.most_receives * _SAFE_SHARE
        return _Plan.HIDE if in_place and _seconds(item.after) <= LONGEST_HIDDEN else _Plan.COPY

    async def _forget_payloads(self, items: list[_Item], results: list[Result]) -> None:
        await asyncio.gather(
            *(
                self._store.remove(one.receipt.record)
                for one, error in zip(items, results, strict=True)
                if error is None and one.receipt.record.reference
            )
        )

    def _remember(self, plan: _Plan, items: list[_Item], results: list[Result]) -> None:
        """Note what SQS counts otherwise than we do."""
        held = self._leases.held
        for one, error in zip(items, results, strict=True):
            if error is not None:
                continue
            if plan is _Plan.HIDE and isinstance(one.verdict, Release):
                held.discount(one.receipt.message_id)
            elif plan is _Plan.COPY and one.receipt.names.fifo and one.after:
                seconds = one.after.total_seconds()
                held.send_ahead(one.receipt.names, one.delivery.id, seconds)


def _again(item: _Item) -> Parcel:
    record, receipt = item.record, item.receipt
    seconds = _seconds(item.after)
    if seconds > LONGEST_DELAY or (seconds and receipt.names.fifo):
        record = replace(record, due=utc_now() + item.after)
    if not receipt.names.fifo:
        return Parcel(record=record, delay=seconds)
    token = f"{receipt.message_id}-{receipt.count}"
    return Parcel(record=record, group=receipt.group, token=token)


def _letter(item: _Item) -> Parcel:
    verdict, receipt = item.verdict, item.receipt
    assert isinstance(verdict, Dead)
    texts = {
        "at": str(milliseconds(utc_now())),
        "reason": verdict.reason,
        "error": verdict.error[:_LONGEST_ERROR],
        "error-type": verdict.error_type,
        "run-id": verdict.run_id,
        "queue": receipt.names.main,
        "deliveries": str(item.delivery.deliveries),
    }
    more = {DEAD + name: allowed(text) for name, text in texts.items() if text}
    if not receipt.names.fifo:
        return Parcel(record=item.record, more=more)
    # A group of its own, so that browsing one letter blocks no other.
    token = f"{receipt.message_id}-{receipt.count}"
    return Parcel(record=item.record, more=more, group=group_of(None, token), token=token)


def _says_nothing(error: Result) -> bool:
    """Whether nothing was carried out for a reason that isn't the message's own."""
    return isinstance(error, BrokerUnavailableError | BrokerRefusedError)


def _seconds(after: timedelta) -> int:
    # Rounded up, so that nothing comes before its time.
    return math.ceil(after.total_seconds())
