"""Settling: verdicts are told to the broker, with patience, and to whoever keeps count."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from blocks.broker import Session
from blocks.errors import BrokerError, BrokerUnavailableError
from blocks.message import Dead, Done, Outcome
from noa_flows.bridge.circuit_breaker import CircuitBreaker
from noa_flows.bridge.dead_letters import dead_runs
from noa_flows.bridge.observer import Observer
from noa_flows.bridge.progress import bounded
from noa_flows.bridge.tally import Tally

Logger = logging.Logger | logging.LoggerAdapter[Any]

_ATTEMPTS: Final = 5


class Settler:
    """Settles the messages of one queue."""

    def __init__(
        self,
        session: Session,
        queue: str,
        *,
        breaker: CircuitBreaker,
        observer: Observer,
        logger: Logger,
    ) -> None:
        self._session = session
        self._queue = queue
        self._breaker = breaker
        self._observer = observer
        self._logger = logger
        self.tally = Tally()

    async def settle(self, outcomes: Sequence[Outcome], *, has_run: bool) -> None:
        """Settle what has a run, or what will never have one.

        What can't be settled is delivered again, and finds its run.
        """
        for attempt in range(_ATTEMPTS if outcomes else 0):
            try:
                async with bounded():
                    settled = await self._session.settle(outcomes)
            except BrokerUnavailableError as error:
                self._logger.warning("Settling failed, attempt %d. %s", attempt + 1, error)
                self._breaker.failed(str(error))
                await asyncio.sleep(self._breaker.wait().total_seconds())
                self._breaker.probe()
                continue
            self._note(outcomes, [one.error for one in settled], has_run=has_run)
            return

    async def once_a_run(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
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

    def _note(
        self,
        outcomes: Sequence[Outcome],
        errors: Sequence[BrokerError | None],
        *,
        has_run: bool,
    ) -> None:
        for outcome, error in zip(outcomes, errors, strict=True):
            if error is not None:
                self._logger.info("%s was not settled: %s", outcome.delivery.id, error)
                self.tally.lost_leases += 1
                continue
            self.tally.count(outcome.verdict, has_run=has_run)
            if isinstance(outcome.verdict, Dead):
                self._logger.warning(
                    "%s went to the dead letters (%s): %s",
                    outcome.delivery.id,
                    outcome.verdict.reason,
                    outcome.verdict.error,
                )
                self._observer.dead_lettered(outcome.delivery, outcome.verdict)


def _dead_run(outcome: Outcome) -> str:
    """The interrupted run of a message that is to be dead; empty for others."""
    return outcome.verdict.run_id if isinstance(outcome.verdict, Dead) else ""
