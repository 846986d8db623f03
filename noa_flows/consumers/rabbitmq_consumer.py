"""The consumer flow for RabbitMQ."""

from prefect import flow
from prefect.client.schemas.objects import State

from noa_flows.consumers.consumer import Subscription, consume


@flow(
    name="consume-rabbitmq",
    flow_run_name="consume-rabbitmq-{queue}",
    # A consumer that fails, for a broker that refuses it or a job that can't be imported, tries
    # again in place; a person sees the reason meanwhile.
    retries=10_000,
    retry_delay_seconds=30,
)
async def consume_rabbitmq(
    queue: str,
    jobs: list[str],
    broker: str = "rabbitmq-broker/noa",
    deployments: dict[str, str] | None = None,
    max_waiting: int | None = None,
) -> str | State[str]:
    """Start a flow run for each message on a RabbitMQ queue.

    Args:
        queue: The queue's name.
        jobs: The job types that messages of this queue may start.
        broker: A saved RabbitMQ broker block, `rabbitmq-broker/<name>`, or a URL without a
            password; empty for the provider of the settings.
        deployments: Job type to `flow/deployment`, where it isn't `<job>/<job>`.
        max_waiting: Runs of each priority band that may wait; empty for the setting.
    """
    return await consume(
        Subscription(
            broker=broker,
            queue=queue,
            jobs=jobs,
            deployments=deployments or {},
            max_waiting=max_waiting,
        )
    )
