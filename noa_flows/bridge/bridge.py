"""The bridge: takes messages from a queue, hands them over to Prefect, and settles them.

A message is settled only when its run exists. Whatever happens in between, it is either handed over
or given back: a lease that ends brings it to another consumer, whose hand-over finds the same run.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, Final

from blocks.broker import Session
from blocks.errors import BrokerError
from blocks.message import Dead, Delivery, Depth, Done, Outcome, Release, Retry, Verdict, utc_now
from noa_flows.bridge.backlog import Backlog, Room
from noa_flows.bridge.circuit_breaker import CircuitBreaker
from noa_flows.bridge.dispatcher import Dispatcher, HandedOver, Rejected
from noa_flows.bridge.held import Held
from noa_flows.bridge.intake import INTERRUPTED_HEADER, Intake, Refusal, Unwanted
from noa_flows.bridge.observer import Observer
from noa_flows.bridge.order import Order
from noa_flows.bridge.progress import Progress, bounded
from noa_flows.bridge.settler import Settler
from noa_flows.bridge.tally import Tally
from noa_flows.errors import NotFoundError, PrefectApiError, StorageError

Logger = logging.Logger | logging.LoggerAdapter[Any]

_RECEIVE_WAIT: Final = timedelta(seconds=1)
_FULL_PAUSE_SECONDS: Final = 0.25
_FULL_BAND_PAUSE: Final = timedelta(seconds=5)
_RETRY_STEP: Final = timedelta(seconds=2)
_LONGEST_RETRY: Final = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How much the bridge takes at once, and how far ahead it schedules."""

    batch_size: int
    #: Runs due later than this stay with the broker until they are nearer.
    schedule_horizon: timedelta


class Bridge:
    """One consumer of one queue.

    `run` returns only by cancellation, with everything taken either handed over or given back.
    """

    def __init__(
        self,
        *,
        session: Session,
        queue: str,
        lease: timedelta,
        intake: Intake,
        dispatcher: Dispatcher,
        backlog: Backlog,
        pace: Pace,
        logger: Logger,
        observer: Observer,
    ) -> None:
        self._session = session
        self._queue = queue
        self._intake = intake
        self._dispatcher = dispatcher
        self._backlog = backlog
        self._pace = pace
        self._logger = logger
        self._held = Held(session, lease=lease, logger=logger)
        self._prefect = CircuitBreaker(on_change=partial(observer.circuit_changed, "prefect"))
        self._broker = CircuitBreaker(on_change=partial(observer.circuit_changed, "broker"))
        self._progress = Progress(session, queue)
        self._settler = Settler(
            session, queue, breaker=self._broker, observer=observer, logger=logger
        )

    @property
    def tally(self) -> Tally:
        """What has been done so far."""
        return self._settler.tally

    async def depth(self) -> Depth:
        """What the queue holds, with all that this consumer holds of it."""
        return await self._session.depth(self._queue)

    async def run(self) -> None:
        """Take, hand over and settle until cancelled.

        Raises:
            StalledError: Nothing comes although messages wait; another session may do better.
        """
        async with self._held.renewing():
            while True:
                deliveries = await self._receive(await self._room())
                if deliveries:
                    await self._handle(deliveries)

    async def _room(self) -> Room:
        """Wait until Prefect answers and has room for more runs, and say for which."""
        while True:
            await self._pause(self._prefect)
            try:
                room = await self._backlog.room()
            except PrefectApiError as error:
                self._prefect_failed(error)
                continue
            self._prefect_answered()
            if room is not None:
                return room
            self._progress.made()
            await asyncio.sleep(_FULL_PAUSE_SECONDS)

    async def _receive(self, room: Room) -> Sequence[Delivery]:
        await self._pause(self._broker)
        try:
            async with bounded():
                deliveries = await self._session.receive(
                    self._queue,
                    max_messages=min(room.messages, self._pace.batch_size),
                    wait=_RECEIVE_WAIT,
                    lowest=room.lowest,
                )
                if not deliveries:
                    await self._progress.check(room.lowest)
        except BrokerError as error:
            self._progress.made()
            if self._broker.failed(str(error)):
                self._logger.warning("The broker is away; waiting for it. %s", error)
            return []
        if deliveries:
            self._progress.made()
        if self._broker.succeeded():
            self._logger.info("The broker is back.")
        self.tally.received += len(deliveries)
        return deliveries

    async def _handle(self, deliveries: Sequence[Delivery]) -> None:
        with self._held.holding(deliveries):
            # Decoding is work for the processor: in a thread it leaves the renewals on time.
            read = await asyncio.to_thread(lambda: [self._intake.read(one) for one in deliveries])
            orders: list[Order] = []
            outcomes: list[Outcome] = []
            for item in read:
                verdict = self._verdict_before_hand_over(item)
                if isinstance(item, Order) and verdict is None:
                    orders.append(item)
                elif verdict is not None:
                    outcomes.append(Outcome(item.delivery, verdict))
            # Refusals first: good neighbours that wait for Prefect don't hold them up.
            await self._settler.settle(await self._settler.once_a_run(outcomes), has_run=False)
            await self._settler.settle(await self._hand_over(orders), has_run=True)

    def _verdict_before_hand_over(self, item: Order | Refusal | Unwanted) -> Verdict | None:
        if isinstance(item, Unwanted):
            return Done()
        if isinstance(item, Refusal):
            error = item.error
            return Dead(
                reason=error.reason,
                error=str(error),
                error_type=type(error).__name__,
                run_id=item.delivery.headers.get(INTERRUPTED_HEADER, ""),
            )
        ahead = item.not_before - utc_now() if item.not_before else timedelta(0)
        if ahead > self._pace.schedule_horizon:
            return Release(ahead - self._pace.schedule_horizon)
        # A band is full here only where the event names another priority than the broker knew.
        has_room = ahead > timedelta(0) or self._backlog.reserve(item.band)
        return None if has_room else Release(_FULL_BAND_PAUSE)

    async def _hand_over(self, orders: Sequence[Order]) -> Sequence[Outcome]:
        """Try until Prefect has answered for every order that is still held."""
        while orders:
            await self._pause(self._prefect)
            orders = [order for order in orders if self._held.has(order.delivery)]
            try:
                results = await self._dispatcher.hand_over(orders)
            except (PrefectApiError, NotFoundError, StorageError) as error:
                self._prefect_failed(error)
                continue
            self._prefect_answered()
            return [Outcome(result.order.delivery, _verdict(result)) for result in results]
        return []

    def _prefect_failed(self, error: Exception) -> None:
        if self._prefect.failed(str(error)):
            self._logger.warning("Intake pauses: %s", error)

    def _prefect_answered(self) -> None:
        if self._prefect.succeeded():
            self._logger.info("Prefect answers again; intake goes on.")

    @staticmethod
    async def _pause(breaker: CircuitBreaker) -> None:
        await asyncio.sleep(breaker.wait().total_seconds())
        breaker.probe()


def _verdict(result: HandedOver | Rejected) -> Verdict:
    if isinstance(result, HandedOver):
        return Done()
    if result.permanent:
        return Dead(
            reason="failed", error=str(result.error), error_type=type(result.error).__name__
        )
    steps = 2 ** min(result.order.delivery.deliveries, 10)
    return Retry(min(_RETRY_STEP * steps, _LONGEST_RETRY))
