"""Intake: a delivery becomes an order, or a refusal with its reason. No I/O happens here."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from blocks.message import Delivery, band_of, utc_now
from noa_flows.bridge.event_filter import EventFilter
from noa_flows.bridge.order import Order, run_key
from noa_flows.bridge.route import Route
from noa_flows.envelope import Origin, decode
from noa_flows.errors import MessageError, NotFoundError, PayloadError
from noa_flows.event import Event
from noa_flows.jobs import AnyJob, find_job
from noa_flows.labels import (
    BROKER,
    CAUSATION_ID,
    CORRELATION_ID,
    DELIVERY_ID,
    GENERATION,
    MESSAGE_ID,
    PROVIDER,
    QUEUE,
    REPLY_TO,
    ROUTE,
    SOURCE,
    TENANT,
    TRACEPARENT,
)
from noa_flows.payload_names import snake_cased
from noa_flows.strict_json import JsonLimits

_MAX_NAME: Final = 200
#: Names the run of a message that comes back as a dead letter, since that run was interrupted.
INTERRUPTED_HEADER: Final = "noa-interrupted"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that will never become a run, and why."""

    delivery: Delivery
    error: MessageError


@dataclass(frozen=True, slots=True)
class Unwanted:
    """A message that the route's filters don't let through."""

    delivery: Delivery


class Intake:
    """Turns the deliveries of one route into orders."""

    def __init__(
        self,
        route: Route,
        *,
        limits: JsonLimits,
        max_deliveries: int,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._route = route
        self._limits = limits
        self._max_deliveries = max_deliveries
        self._now = now
        self._filter = EventFilter(route.filters)

    def read(self, delivery: Delivery) -> Order | Refusal | Unwanted:
        """Decode, check and address one message.

        The order of the checks is the order of trust: first whether it kills its readers, then
        whether it is an event, and one that is wanted, then whether this queue may start that job,
        then its payload.
        """
        try:
            self._check_deliveries(delivery)
            origin = Origin(id=delivery.id, source=self._route.source, priority=delivery.priority)
            event = decode(delivery.body, delivery.headers, origin=origin, limits=self._limits)
            if not self._filter.accepts(event, delivery.headers):
                return Unwanted(delivery)
            job = self._allowed_job(event)
            _check_interruption(delivery)
            self._check_expiry(event)
            return self._order(delivery, event, _payload(event, job))
        except MessageError as error:
            return Refusal(delivery, error)

    def _check_deliveries(self, delivery: Delivery) -> None:
        if delivery.deliveries > self._max_deliveries:
            raise MessageError(
                f"delivered {delivery.deliveries} times and never settled; at most "
                f"{self._max_deliveries} deliveries are tried (setting `bridge.max_deliveries`)",
                reason="too-many-deliveries",
            )

    def _allowed_job(self, event: Event) -> AnyJob:
        try:
            job = find_job(event.job_type)
        except NotFoundError as error:
            raise MessageError(str(error), reason="unknown-type", path="type") from error
        if event.job_type not in self._route.jobs:
            raise MessageError(
                f"the queue {self._route.queue!r} may not start {event.job_type!r}; it may start "
                f"{', '.join(sorted(self._route.jobs))}",
                reason="forbidden",
                path="type",
            )
        return job

    def _check_expiry(self, event: Event) -> None:
        if event.expires is not None and event.expires <= self._now():
            raise MessageError(
                f"expired at {event.expires.isoformat()}", reason="expired", path="expirytime"
            )

    def _order(self, delivery: Delivery, event: Event, parameters: dict[str, object]) -> Order:
        route, deployment = self._route, self._route.deployment_of(event.job_type)
        key = run_key(
            route=route.name,
            deployment=deployment,
            source=event.source,
            message_id=event.id,
            generation=delivery.generation,
        )
        # One delivery id over all generations and reruns: a receiver can tell a repeat.
        return Order(
            delivery=delivery,
            deployment=deployment,
            key=key,
            name=f"{event.job_type}-{event.subject or event.id}"[:_MAX_NAME],
            parameters=parameters,
            labels=self._labels(delivery, event),
            tags=_tags(event, route.queue),
            band=band_of(event.priority),
            not_before=event.not_before,
        )

    def _labels(self, delivery: Delivery, event: Event) -> dict[str, str | int]:
        route = self._route
        delivery_id = run_key(
            route=route.name,
            deployment=route.deployment_of(event.job_type),
            source=event.source,
            message_id=event.id,
            generation=0,
        )
        labels: dict[str, str | int | None] = {
            DELIVERY_ID: delivery_id[:32],
            MESSAGE_ID: event.id,
            SOURCE: event.source,
            ROUTE: route.name,
            PROVIDER: route.provider,
            BROKER: route.broker or None,
            QUEUE: route.queue,
            GENERATION: delivery.generation,
            CORRELATION_ID: event.correlation_id,
            CAUSATION_ID: event.causation_id,
            TENANT: event.tenant,
            REPLY_TO: event.reply_to,
            TRACEPARENT: event.traceparent,
        }
        return {name: value for name, value in labels.items() if value is not None}


def _check_interruption(delivery: Delivery) -> None:
    if (run := delivery.headers.get(INTERRUPTED_HEADER)) is not None:
        raise MessageError(
            f"the flow run {run} was interrupted, and isn't executed again; `noa dead redrive` "
            "starts a new one",
            reason="interrupted",
        )


def message_tag(message_id: str) -> str:
    """The tag by which the runs of a message are found."""
    return f"message:{message_id}"


def _tags(event: Event, queue: str) -> tuple[str, ...]:
    tags = ["noa", f"job:{event.job_type}", f"queue:{queue}", message_tag(event.id)]
    if event.tenant is not None:
        tags.append(f"tenant:{event.tenant}")
    return tuple(tags)


def _payload(event: Event, job: AnyJob) -> dict[str, object]:
    """Turn the names and validate, but hand on what was sent: defaults are the job's business."""
    try:
        data = snake_cased(event.data, job.payload_model)
        job.parse(data)
    except PayloadError as error:
        raise error.below("data") from error
    return data
