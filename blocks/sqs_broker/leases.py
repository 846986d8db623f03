"""Leases at SQS are visibility time-outs; this starts them anew and moves what is held."""

import time
from collections import defaultdict
from collections.abc import Sequence

from blocks.errors import BrokerError, LeaseLostError
from blocks.message import Delivery
from blocks.sqs_broker.handles import change_visibility, delete
from blocks.sqs_broker.held import Held, Receipt
from blocks.sqs_broker.names import Names
from blocks.sqs_broker.queues import Queues
from blocks.sqs_broker.sender import Parcel, send
from blocks.sqs_broker.wire import Wire

Result = BrokerError | None


class Leases:
    """What can be done to messages while they are held."""

    def __init__(
        self, wire: Wire, queues: Queues, held: Held, *, visibility: int, limit: int, most: int
    ) -> None:
        self.held = held
        self.visibility = visibility
        #: After so many receives SQS moves a message to the dead letters, whatever they were for.
        self.most_receives = most
        self._wire = wire
        self._queues = queues
        self._limit = limit

    async def renew(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Start leases anew, and return the deliveries that are still held.

        Raises:
            BrokerError: No lease could be renewed, though some are held.
        """
        asked: defaultdict[Names, dict[int, Receipt]] = defaultdict(dict)
        for place, delivery in enumerate(deliveries):
            try:
                receipt = self.held.receipt_of(delivery)
            except LeaseLostError:
                continue
            asked[receipt.names][place] = receipt
        results = [
            result
            for names, receipts in asked.items()
            for result in await self._renew(names, list(receipts.values()))
        ]
        failures = [one for one in results if one and not isinstance(one, LeaseLostError)]
        if failures and len(failures) == len(results):
            raise failures[0]
        kept = {place for some in asked.values() for place, one in some.items() if one.left > 0}
        return [one for place, one in enumerate(deliveries) if place in kept]

    async def delete(self, names: Names, receipts: Sequence[Receipt]) -> list[Result]:
        """Delete messages that are held."""
        url = await self._queues.url(names.main)
        results = await delete(self._wire, url, [receipt.handle for receipt in receipts])
        return self._dropped(receipts, results)

    async def hide(self, names: Names, hidden: Sequence[tuple[Receipt, int]]) -> list[Result]:
        """Let messages come again in so many seconds, in their place; SQS counts it."""
        url = await self._queues.url(names.main)
        results = await change_visibility(
            self._wire, url, [(receipt.handle, seconds) for receipt, seconds in hidden]
        )
        for (receipt, seconds), error in zip(hidden, results, strict=True):
            if error is None and seconds:
                self.held.hide(receipt, seconds)
        return self._dropped([receipt for receipt, _ in hidden], results)

    async def move(
        self, names: Names, target: str, parcels: Sequence[tuple[Receipt, Parcel]]
    ) -> list[Result]:
        """Send copies, then delete what was held.

        What ends in between leaves a message twice rather than never; both have the same id.
        """
        results = await self._hold_on(names, [receipt for receipt, _ in parcels])
        going = [place for place, error in enumerate(results) if error is None]
        url = await self._queues.url(target)
        copies = [parcels[place][1].fitting(self._limit) for place in going]
        sent = await send(self._wire, url, copies, limit=self._limit)
        gone = [place for place, error in zip(going, sent, strict=True) if error is None]
        deleted = await self.delete(names, [parcels[place][0] for place in gone])
        for places, errors in ((going, sent), (gone, deleted)):
            for place, error in zip(places, errors, strict=True):
                results[place] = error
        return results

    async def _hold_on(self, names: Names, receipts: Sequence[Receipt]) -> list[Result]:
        """Make sure that there is time for two calls before a lease ends."""
        results: list[Result] = [None] * len(receipts)
        short = [place for place, one in enumerate(receipts) if one.left < self.visibility / 2]
        renewed = await self._renew(names, [receipts[place] for place in short])
        for place, error in zip(short, renewed, strict=True):
            results[place] = error
        return results

    async def _renew(self, names: Names, receipts: Sequence[Receipt]) -> list[Result]:
        if not receipts:
            return []
        url = await self._queues.url(names.main)
        # Taken before the call, so that a lease never ends earlier at SQS than here.
        begin = time.monotonic()
        results = await change_visibility(
            self._wire, url, [(receipt.handle, self.visibility) for receipt in receipts]
        )
        for receipt, error in zip(receipts, results, strict=True):
            if error is None:
                receipt.deadline = begin + self.visibility
            elif isinstance(error, LeaseLostError):
                receipt.deadline = begin
                self.held.drop(receipt)
        return results

    def _dropped(self, receipts: Sequence[Receipt], results: list[Result]) -> list[Result]:
        for receipt, error in zip(receipts, results, strict=True):
            if error is None or isinstance(error, LeaseLostError):
                self.held.drop(receipt)
        return results
