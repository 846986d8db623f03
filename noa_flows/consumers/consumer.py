"""What every consumer flow does: open the broker, find the deployments, run the bridge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed

from blocks.broker import Broker
from blocks.errors import BrokerConfigurationError
from blocks.providers import load_broker
from noa_flows.bridge.assembly import open_bridge
from noa_flows.bridge.route import Route
from noa_flows.consumers.events import ConsumerEvents
from noa_flows.consumers.succession import living_predecessor
from noa_flows.consumers.termination import ended_by_sigterm
from noa_flows.errors import ConfigurationError
from noa_flows.jobs import find_job
from noa_flows.prefect_api import PATIENT, connect_to_prefect
from noa_flows.settings import Settings, get_settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """What a consumer flow was asked to consume."""

    #: A block, `redis-broker/prod`, or a URL without a password; empty for the configured provider.
    broker: str
    queue: str
    jobs: Sequence[str]
    deployments: Mapping[str, str]
    max_waiting: int | None
    topics: Sequence[str]
    filters: Sequence[Mapping[str, Any]]

    @property
    def route_name(self) -> str:
        """The route of the subscription: one a queue."""
        return self.queue


async def consume(subscription: Subscription) -> str | State[str]:
    """Consume until the flow run is cancelled; or leave it to a consumer that already does.

    A run that only the schedule wanted, or an automation, ends as `NotConfigured` where the broker
    has no block yet: a consumer is deployed for each provider, and used for those that are
    configured.

    Raises:
        ConfigurationError: A job, a deployment or the broker isn't what the subscription says.
        BrokerRefusedError: The broker refuses the credentials.
        StalledError: Nothing comes although messages wait; the flow's retries begin anew.
    """
    logger, settings = get_run_logger(), get_settings()
    async with connect_to_prefect(max_retries=PATIENT) as api:
        predecessor = await living_predecessor(api, _own_run(), logger)
    if predecessor is not None:
        return f"{predecessor} is consuming already; this run was not needed."
    async with connect_to_prefect() as api:
        try:
            broker = await _broker(subscription, settings)
        except BrokerConfigurationError as error:
            if not _is_wanted_by_a_person():
                return Completed(name="NotConfigured", message=str(error))
            raise
        route = _route(subscription, broker)
        async with (
            broker.connect() as session,
            open_bridge(
                api=api,
                broker=broker,
                session=session,
                route=route,
                settings=settings,
                max_waiting=subscription.max_waiting,
                logger=logger,
                observer=ConsumerEvents(route),
            ) as bridge,
        ):
            logger.info("Consuming %s from %s.", route.queue, route.address)
            with ended_by_sigterm():
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
        broker=subscription.broker,
        queue=subscription.queue,
        jobs=frozenset(subscription.jobs),
        deployments=subscription.deployments,
        topics=subscription.topics,
        filters=subscription.filters,
    )


def _is_wanted_by_a_person() -> bool:
    """Whether neither the deployment's schedule nor an automation has made this run."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return True
    creator = context.flow_run.created_by
    return not context.flow_run.auto_scheduled and (creator is None or creator.type != "AUTOMATION")


def _own_run() -> str:
    run_id = flow_run.get_id()
    if run_id is None:
        raise ConfigurationError("a consumer runs inside its Prefect flow only")
    return str(run_id)
