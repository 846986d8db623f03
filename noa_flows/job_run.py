"""What the work of a job may know of, and tell to, the run that it is part of."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from prefect.context import FlowRunContext
from prefect.exceptions import MissingContextError

from noa_flows.claim_check import fetch_parameters
from noa_flows.labels import DATAREF, DELIVERY_ID
from noa_flows.settings import Settings, get_settings

Logger = logging.Logger | logging.LoggerAdapter[Any]


class Audience(Protocol):
    """Where a run's progress and artifacts go: Prefect, or a test's list."""

    async def progress(self, percent: float, text: str) -> None:
        """Say how far the work is."""
        ...

    async def table(self, key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
        """Show a table."""
        ...

    async def markdown(self, key: str, text: str, description: str) -> None:
        """Show a text."""
        ...

    async def link(self, key: str, url: str, text: str, description: str) -> None:
        """Show a link."""
        ...


@dataclass(frozen=True, kw_only=True)
class JobRun:
    """One execution of a job, as its work sees it.

    Example:
        >>> run = JobRun.for_test(delivery_id="order-17")
        >>> run.delivery_id
        'order-17'
    """

    #: The same over retries, redeliveries and reruns: it goes into every effect of the job.
    delivery_id: str
    #: Prefect's id of the flow run; None outside Prefect.
    run_id: str | None
    #: 1 for the first execution.
    attempt: int
    settings: Settings
    logger: Logger
    audience: Audience

    @classmethod
    async def current(cls, parameters: Mapping[str, Any]) -> tuple["JobRun", Mapping[str, Any]]:
        """Read the running flow's context: the run, and the payload as it was sent.

        A payload that was too large for Prefect travels by reference, and is fetched here.

        Raises:
            MissingContextError: No flow is running.
            PermanentJobError: The referenced payload is gone, or isn't what was stored.
        """
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            raise MissingContextError("a job's run is known inside its Prefect flow only")
        flow_run, settings = context.flow_run, get_settings()
        labels = flow_run.labels
        if DATAREF in labels:
            parameters = await fetch_parameters(str(labels[DATAREF]), settings.storage)
        run = cls(
            delivery_id=str(labels.get(DELIVERY_ID, flow_run.id)),
            run_id=str(flow_run.id),
            attempt=max(flow_run.run_count, 1),
            settings=settings,
            logger=_run_logger(),
            audience=_prefect_audience(context.flow.name if context.flow else "job"),
        )
        return run, parameters

    @classmethod
    def for_test(cls, delivery_id: str = "test", settings: Settings | None = None) -> "JobRun":
        """Make a run without Prefect, which records what it is told in `told`."""
        return cls(
            delivery_id=delivery_id,
            run_id=None,
            attempt=1,
            settings=settings or Settings(),
            logger=logging.getLogger("noa_flows.test"),
            audience=Recorder(),
        )

    @property
    def told(self) -> list[tuple[Any, ...]]:
        """What the run was told, in order, where it was made by `for_test`."""
        return self.audience.told if isinstance(self.audience, Recorder) else []

    async def progress(self, percent: float, text: str) -> None:
        """Say how far the work is, from 0 to 100, and what it is at."""
        await self.audience.progress(percent, text)

    async def table(self, key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
        """Show rows as a table artifact."""
        await self.audience.table(key, rows, description)

    async def markdown(self, key: str, text: str, description: str) -> None:
        """Show a Markdown text as an artifact."""
        await self.audience.markdown(key, text, description)

    async def link(self, key: str, url: str, text: str, description: str) -> None:
        """Show a link as an artifact."""
        await self.audience.link(key, url, text, description)


@dataclass(frozen=True)
class Recorder:
    """An audience that remembers what it was told, for tests."""

    told: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])

    async def progress(self, percent: float, text: str) -> None:
        """Remember the progress."""
        self.told.append(("progress", percent, text))

    async def table(self, key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
        """Remember the table."""
        self.told.append(("table", key, list(rows), description))

    async def markdown(self, key: str, text: str, description: str) -> None:
        """Remember the text."""
        self.told.append(("markdown", key, text, description))

    async def link(self, key: str, url: str, text: str, description: str) -> None:
        """Remember the link."""
        self.told.append(("link", key, url, text, description))


def _run_logger() -> Logger:
    from prefect.logging import get_run_logger

    return get_run_logger()


def _prefect_audience(flow_name: str) -> Audience:
    from noa_flows.artifacts import PrefectAudience

    return PrefectAudience(flow_name)
