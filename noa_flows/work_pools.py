"""Makes the work pools that a `prefect.yaml` lists, with the priorities of their queues."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from noa_flows.errors import ConfigurationError
from noa_flows.prefect_api import PrefectApi


class WorkPool(BaseModel):
    """A work pool, as `prefect.yaml` describes it under `work_pools`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    type: str
    description: str = ""
    #: Queue name → priority; 1 is served first.
    queues: dict[str, int] = Field(default_factory=dict[str, int])


class _ProjectFile(BaseModel):
    work_pools: list[WorkPool] = Field(default_factory=list[WorkPool])


def read_work_pools(project_file: Path) -> Sequence[WorkPool]:
    """Read the work pools of a `prefect.yaml`; a file without any has none.

    Raises:
        ConfigurationError: The file isn't there, isn't YAML, or describes a pool wrongly.
    """
    try:
        content = yaml.safe_load(project_file.read_text(encoding="utf-8"))
        return _ProjectFile.model_validate(content or {}).work_pools
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigurationError(f"{project_file}: {error}") from error


async def ensure_work_pools(api: PrefectApi, pools: Sequence[WorkPool]) -> Sequence[str]:
    """Make what is missing, set the priorities, and return the names of the pools made."""
    made: list[str] = []
    for pool in pools:
        if await api.ensure_work_pool(pool.name, kind=pool.type, description=pool.description):
            made.append(pool.name)
        for queue, priority in pool.queues.items():
            await api.ensure_work_queue(pool.name, queue, priority=priority)
    return made
