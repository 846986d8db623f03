"""The consumer flow for the embedded broker."""

from prefect import flow
from prefect.client.schemas.objects import State

from noa_flows.consumers.consumer import Subscription, consume


@flow(
    name="consume-embedded",
    flow_run_name="consume-embedded-{queue}",
    # A consumer that fails, for a broker that refuses it or a job that can't be imported, tries
    # again in place; a person sees the reason meanwhile.
    retries=10_000,
    retry_delay_seconds=30,
)
async def consume_embedded(
    queue: str,
    jobs: list[str],
    broker: str = "embedded-broker/noa",
    deployments: dict[str, str] | None = None,
    max_waiting: int | None = None,
) -> str | State[str]:
    """Start a flow run for each message on a queue of the embedded broker.

    Args:
        queue: The queue.
        jobs: The job types that messages of this queue may start.
        broker: A saved embedded broker block, `embedded-broker/<name>`, or a URL;
            empty for the provider of the settings.
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
