"""What every consumer flow does: open the broker, find the deployments, run the bridge."""

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from prefect.events import emit_event
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from blocks.broker import Broker, Session
from blocks.message import Dead, Delivery
from blocks.providers import load_broker
from noa_flows.bridge.backlog import Backlog
from noa_flows.bridge.bridge import Bridge, DeadLetterHook, Pace
from noa_flows.bridge.dispatcher import Dispatcher
from noa_flows.bridge.intake import Intake
from noa_flows.bridge.route import Route
from noa_flows.consumers.succession import living_predecessor
from noa_flows.errors import ConfigurationError
from noa_flows.jobs import find_job
from noa_flows.prefect_api import PrefectApi, connect_to_prefect
from noa_flows.settings import Settings, get_settings
from noa_flows.strict_json import JsonLimits

Logger = logging.Logger | logging.LoggerAdapter[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """What a consumer flow was asked to consume."""

    #: A block, `redis-broker/prod`, or a URL without a password; empty for the configured provider.
    broker: str
    queue: str
    jobs: Sequence[str]
    deployments: Mapping[str, str]
    max_waiting: int | None

    @property
    def route_name(self) -> str:
        """The route of the subscription: one a queue."""
        return self.queue


async def consume(subscription: Subscription) -> str:
    """Consume until the flow run is cancelled; or leave it to a consumer that already does.

    Raises:
        ConfigurationError: A job, a deployment or the broker isn't what the subscription says.
        BrokerRefusedError: The broker refuses the credentials.
    """
    logger, settings = get_run_logger(), get_settings()
    async with connect_to_prefect() as api:
        predecessor = await living_predecessor(api, _own_run(), logger)
        if predecessor is not None:
            return f"{predecessor} is consuming already; this run was not needed."
        broker = await _broker(subscription, settings)
        route = _route(subscription, broker)
        async with (
            broker.connect() as session,
            _bridge(
                api=api,
                session=session,
                broker=broker,
                route=route,
                max_waiting=subscription.max_waiting,
                settings=settings,
                logger=logger,
            ) as bridge,
        ):
            logger.info("Consuming %s from %s.", route.queue, route.address)
            await bridge.run()
    return "stopped"


def check_jobs(jobs: Sequence[str]) -> None:
    """Import every job of a subscription, so that a misspelt one fails at start-up."""
    if not jobs:
        raise ConfigurationError("`jobs` is empty: name the job types that this queue may start")
    for name in jobs:
        find_job(name)


async def _broker(subscription: Subscription, settings: Settings) -> Broker:
    if urlsplit(subscription.broker).password:
        raise ConfigurationError(
            "`broker` is a URL with a password, which would stand in the run's parameters; save it "
            "as a block, and give `<block type>/<name>`"
        )
    return await load_broker(subscription.broker or settings.provider.url)


def _route(subscription: Subscription, broker: Broker) -> Route:
    check_jobs(subscription.jobs)
    return Route(
        name=subscription.route_name,
        provider=broker.get_block_type_slug(),
        address=broker.address,
        queue=subscription.queue,
        jobs=frozenset(subscription.jobs),
        deployments=subscription.deployments,
    )


@asynccontextmanager
async def _bridge(
    *,
    api: PrefectApi,
    session: Session,
    broker: Broker,
    route: Route,
    max_waiting: int | None,
    settings: Settings,
    logger: Logger,
) -> AsyncGenerator[Bridge]:
    await session.declare(route.queue)
    bridge_settings = settings.bridge
    limits = JsonLimits(
        max_body_bytes=bridge_settings.max_body_bytes, max_nesting=bridge_settings.max_nesting
    )
    deployments = [await api.read_deployment(name) for name in route.all_deployments()]
    bridge = Bridge(
        session=session,
        queue=route.queue,
        lease=broker.lease,
        intake=Intake(route, limits=limits, max_deliveries=bridge_settings.max_deliveries),
        dispatcher=Dispatcher(
            api, storage=settings.storage, inline_bytes=bridge_settings.inline_parameter_bytes
        ),
        backlog=Backlog(
            api,
            deployment_ids=[one.id for one in deployments],
            max_waiting=max_waiting or bridge_settings.max_waiting,
        ),
        pace=Pace(
            batch_size=bridge_settings.batch_size,
            schedule_horizon=timedelta(seconds=bridge_settings.schedule_horizon_seconds),
        ),
        logger=logger,
        on_dead_letter=_dead_letter_event(route),
    )
    try:
        yield bridge
    finally:
        logger.info("Stopping: %s.", bridge.tally)


def _dead_letter_event(route: Route) -> DeadLetterHook:
    resource = f"noa.queue.{route.provider.removesuffix('-broker')}.{route.queue}"

    def emit(delivery: Delivery, verdict: Dead) -> None:
        emit_event(
            "noa.message.dead-lettered",
            resource={"prefect.resource.id": resource, "prefect.resource.name": route.queue},
            payload={
                "message": delivery.id,
                "reason": verdict.reason,
                "error": verdict.error[:1000],
                "deliveries": delivery.deliveries,
            },
        )

    return emit


def _own_run() -> str:
    run_id = flow_run.get_id()
    if run_id is None:
        raise ConfigurationError("a consumer runs inside its Prefect flow only")
    return str(run_id)
