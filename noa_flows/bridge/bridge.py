"""The bridge: takes messages from a queue, hands them over to Prefect, and settles them.

A message is settled only when its run exists. Whatever happens in between, it is either handed over
or given back: a lease that ends brings it to another consumer, whose hand-over finds the same run.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from blocks.broker import Session
from blocks.errors import BrokerError, BrokerUnavailableError
from blocks.message import Dead, Delivery, Done, Outcome, Release, Retry, Verdict, utc_now
from noa_flows.bridge.backlog import Backlog, Room
from noa_flows.bridge.circuit_breaker import CircuitBreaker
from noa_flows.bridge.dead_letters import dead_runs
from noa_flows.bridge.dispatcher import Dispatcher, HandedOver, Rejected
from noa_flows.bridge.held import Held
from noa_flows.bridge.intake import INTERRUPTED_HEADER, Intake, Refusal
from noa_flows.bridge.order import Order
from noa_flows.bridge.tally import Tally
from noa_flows.errors import NotFoundError, PrefectApiError, StorageError

Logger = logging.Logger | logging.LoggerAdapter[Any]
#: Told of each dead letter: the delivery and the verdict.
DeadLetterHook = Callable[[Delivery, Dead], None]

_RECEIVE_WAIT: Final = timedelta(seconds=1)
_FULL_PAUSE_SECONDS: Final = 0.25
_FULL_BAND_PAUSE: Final = timedelta(seconds=5)
_SETTLE_ATTEMPTS: Final = 5
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
        on_dead_letter: DeadLetterHook = lambda _delivery, _verdict: None,
    ) -> None:
        self._session = session
        self._queue = queue
        self._intake = intake
        self._dispatcher = dispatcher
        self._backlog = backlog
        self._pace = pace
        self._logger = logger
        self._on_dead_letter = on_dead_letter
        self._held = Held(session, lease=lease, logger=logger)
        self._prefect = CircuitBreaker()
        self._broker = CircuitBreaker()
        self.tally = Tally()

    async def run(self) -> None:
        """Take, hand over and settle until cancelled."""
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
            await asyncio.sleep(_FULL_PAUSE_SECONDS)

    async def _receive(self, room: Room) -> Sequence[Delivery]:
        await self._pause(self._broker)
        try:
            deliveries = await self._session.receive(
                self._queue,
                max_messages=min(room.messages, self._pace.batch_size),
                wait=_RECEIVE_WAIT,
                lowest=room.lowest,
            )
        except BrokerError as error:
            if self._broker.failed():
                self._logger.warning("The broker is away; waiting for it. %s", error)
            return []
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
            await self._settle(await self._once_a_run(outcomes))
            await self._settle(await self._hand_over(orders))

    def _verdict_before_hand_over(self, item: Order | Refusal) -> Verdict | None:
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

    async def _once_a_run(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """Let no interrupted run have two dead letters.

        A recovery that is killed between sending the message of a run back and saying so in Prefect
        is followed by one that sends it again.
        """
        runs = {_dead_run(outcome) for outcome in outcomes} - {""}
        if not runs:
            return outcomes
        try:
            known = await dead_runs(self._session, self._queue, runs)
        except BrokerError as error:
            # Not settled, so that they are delivered again.
            self._logger.warning("Dead letters can't be read: %s", error)
            return [outcome for outcome in outcomes if not _dead_run(outcome)]
        once: list[Outcome] = []
        for outcome in outcomes:
            run = _dead_run(outcome)
            if run in known:
                self._logger.warning("The run %s has a dead letter; this one is forgotten.", run)
                once.append(Outcome(outcome.delivery, Done()))
                continue
            once.append(outcome)
            known |= {run} - {""}
        return once

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

    async def _settle(self, outcomes: Sequence[Outcome]) -> None:
        """Settle, with patience: what isn't settled is delivered again, and finds its run."""
        for attempt in range(_SETTLE_ATTEMPTS if outcomes else 0):
            try:
                settled = await self._session.settle(outcomes)
            except BrokerUnavailableError as error:
                self._logger.warning("Settling failed, attempt %d. %s", attempt + 1, error)
                self._broker.failed()
                await self._pause(self._broker)
                continue
            self._note(outcomes, [one.error for one in settled])
            return

    def _note(self, outcomes: Sequence[Outcome], errors: Sequence[BrokerError | None]) -> None:
        for outcome, error in zip(outcomes, errors, strict=True):
            if error is not None:
                self._logger.info("%s was not settled: %s", outcome.delivery.id, error)
                self.tally.lost_leases += 1
                continue
            self.tally.count(outcome.verdict)
            if isinstance(outcome.verdict, Dead):
                self._logger.warning(
                    "%s went to the dead letters (%s): %s",
                    outcome.delivery.id,
                    outcome.verdict.reason,
                    outcome.verdict.error,
                )
                self._on_dead_letter(outcome.delivery, outcome.verdict)

    def _prefect_failed(self, error: Exception) -> None:
        if self._prefect.failed():
            self._logger.warning("Intake pauses: %s", error)

    def _prefect_answered(self) -> None:
        if self._prefect.succeeded():
            self._logger.info("Prefect answers again; intake goes on.")

    @staticmethod
    async def _pause(breaker: CircuitBreaker) -> None:
        await asyncio.sleep(breaker.wait().total_seconds())


def _dead_run(outcome: Outcome) -> str:
    """The interrupted run of a message that is to be dead; empty for others."""
    return outcome.verdict.run_id if isinstance(outcome.verdict, Dead) else ""


def _verdict(result: HandedOver | Rejected) -> Verdict:
    if isinstance(result, HandedOver):
        return Done()
    if result.permanent:
        return Dead(
            reason="failed", error=str(result.error), error_type=type(result.error).__name__
        )
    steps = 2 ** min(result.order.delivery.deliveries, 10)
    return Retry(min(_RETRY_STEP * steps, _LONGEST_RETRY))
