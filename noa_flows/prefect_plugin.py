"""A plugin of Prefect's: before `prefect deploy`, the work pools of `prefect.yaml` are made.

`prefect deploy` refuses a deployment whose work pool is missing, and its file has no place for
pools, so that a first deployment to a new server would need a manual step. Prefect calls
`setup_environment` when it starts, where the setting `plugins.enabled` is on: this project's
`pyproject.toml` turns it on for its own folder. All other commands are left alone.
"""

import sys
from pathlib import Path
from typing import Final

from prefect.plugins import HookContext, register_hook

_PROJECT_FILE: Final = Path("prefect.yaml")


@register_hook
async def setup_environment(*, ctx: HookContext) -> None:
    """Make the work pools that the deployments of this folder need."""
    if "deploy" not in sys.argv[1:3] or not _PROJECT_FILE.is_file() or ctx.api_url is None:
        return
    from noa_flows.prefect_api import PATIENT, connect_to_prefect
    from noa_flows.work_pools import ensure_work_pools, read_work_pools

    pools = read_work_pools(_PROJECT_FILE)
    if not pools:
        return
    async with connect_to_prefect(max_retries=PATIENT) as api:
        for name in await ensure_work_pools(api, pools):
            ctx.logger_factory("noa_flows").info("Made the work pool %s.", name)
