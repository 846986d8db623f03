"""Makes the consumer flow of a provider: one form in Prefect's UI over one bridge, for all."""

from collections.abc import Awaitable, Callable
from typing import Any

from prefect import Flow, flow
from prefect.client.schemas.objects import State

from noa_flows.consumers.consumer import Subscription, consume

#: A consumer flow; see `consumer_flow` for its parameters.
ConsumerFlow = Flow[..., Awaitable[str | State[str]]]


def consumer_flow(provider: str) -> ConsumerFlow:
    """Make the flow `consume-<provider>`, by default on the block `<provider>-broker/noa`.

    Example:
        >>> consume_redis = consumer_flow("redis")
        >>> consume_redis.name
        'consume-redis'
    """

    async def consume_queue(
        queue: str,
        jobs: list[str],
        *,
        broker: str = f"{provider}-broker/noa",
        topics: list[str] | None = None,
        filters: list[dict[str, Any]] | None = None,
        deployments: dict[str, str] | None = None,
        max_waiting: int | None = None,
    ) -> str | State[str]:
        """Start a flow run for each message of a queue.

        Args:
            queue: The queue; two subscribers of a topic have a queue each.
            jobs: The job types that messages of this queue may start.
            broker: A saved block, `<block type>/<name>`, or a URL without a password;
                empty for the provider of the settings.
            topics: Topics that the queue subscribes to.
            filters: Which events are wanted, in the dialects of CloudEvents subscriptions:
                `[{"exact": {"data.region": "EU"}}]`. The others are settled and forgotten.
            deployments: Job type to `flow/deployment`, where it isn't `<job>/<job>`.
            max_waiting: Runs of each priority band that may wait; empty for the setting.
        """
        return await consume(
            Subscription(
                broker=broker,
                queue=queue,
                jobs=jobs,
                topics=topics or (),
                filters=filters or (),
                deployments=deployments or {},
                max_waiting=max_waiting,
            )
        )

    # As if it were written in the provider's own module, where entry points lead.
    consume_queue.__module__ = f"noa_flows.consumers.{provider}_consumer"
    consume_queue.__name__ = consume_queue.__qualname__ = f"consume_{provider}"
    decorate: Callable[[Any], ConsumerFlow] = flow(
        name=f"consume-{provider}",
        flow_run_name=f"consume-{provider}-{{queue}}",
        # A consumer that fails, for a broker that refuses it or a job that can't be imported, tries
        # again in place; a person sees the reason meanwhile.
        retries=10_000,
        retry_delay_seconds=30,
    )
    return decorate(consume_queue)
