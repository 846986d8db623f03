"""Puts a bridge together out of the settings, the route, and two live connections."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from blocks.broker import Broker, Session
from noa_flows.bridge.backlog import Backlog
from noa_flows.bridge.bridge import Bridge, Logger, Pace
from noa_flows.bridge.dispatcher import Dispatcher
from noa_flows.bridge.intake import Intake
from noa_flows.bridge.observer import Observer, Unobserved
from noa_flows.bridge.route import Route
from noa_flows.prefect_api import PATIENT, PrefectApi, connect_to_prefect
from noa_flows.settings import Settings
from noa_flows.strict_json import JsonLimits


@asynccontextmanager
async def open_bridge(
    *,
    api: PrefectApi,
    broker: Broker,
    session: Session,
    route: Route,
    settings: Settings,
    logger: Logger,
    max_waiting: int | None = None,
    observer: Observer | None = None,
) -> AsyncGenerator[Bridge]:
    """Declare and subscribe the queue, look up the deployments, and yield a bridge ready to run.

    Raises:
        ConfigurationError: A filter of the route can't be read.
        NotFoundError: A deployment of the route is missing.
        BrokerError: The queue can't be had.
    """
    await session.declare(route.queue)
    for topic in route.topics:
        await session.subscribe(route.queue, topic)
    limits = settings.bridge
    async with connect_to_prefect(max_retries=PATIENT) as patient:
        deployments = [await patient.read_deployment(name) for name in route.all_deployments()]
    bridge = Bridge(
        session=session,
        queue=route.queue,
        lease=broker.lease,
        intake=Intake(
            route,
            limits=JsonLimits(max_body_bytes=limits.max_body_bytes, max_nesting=limits.max_nesting),
            max_deliveries=limits.max_deliveries,
        ),
        dispatcher=Dispatcher(
            api, storage=settings.storage, inline_bytes=limits.inline_parameter_bytes
        ),
        backlog=Backlog(
            api,
            deployment_ids=[one.id for one in deployments],
            max_waiting=max_waiting or limits.max_waiting,
            selects_band=broker.capabilities.selects_band,
        ),
        pace=Pace(
            batch_size=limits.batch_size,
            schedule_horizon=timedelta(seconds=limits.schedule_horizon_seconds),
        ),
        logger=logger,
        observer=observer or Unobserved(),
    )
    try:
        yield bridge
    finally:
        logger.info("Stopping: %s.", bridge.tally)
