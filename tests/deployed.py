"""Deployments for tests, made as `prefect deploy` makes them, but in milliseconds."""

from typing import Any

from prefect.client.orchestration import get_client
from prefect.flows import Flow
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from noa_flows.prefect_api import PATIENT, connect_to_prefect
from noa_flows.work_pools import ensure_work_pools, read_work_pools
from tests.project import PROJECT


async def deploy(*flows: Flow[..., Any], name: str | None = None) -> None:
    """Deploy flows to the work pool `noa`, each as `<flow>/<flow>`, or `<flow>/<name>`."""
    async with connect_to_prefect(max_retries=PATIENT) as api:
        await ensure_work_pools(api, read_work_pools(PROJECT / "prefect.yaml"))
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: PATIENT}):
        async with get_client() as client:
            for flow in flows:
                await client.create_deployment(
                    flow_id=await client.create_flow(flow),
                    name=name or flow.name,
                    entrypoint=f"{flow.fn.__module__}.{flow.fn.__name__}",
                    work_pool_name="noa",
                    work_queue_name="normal",
                    pull_steps=[],
                    tags=["noa", f"job:{flow.name}"],
                    enforce_parameter_schema=True,
                    parameter_openapi_schema=flow.parameters.model_dump(),
                )
