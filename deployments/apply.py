"""Brings a Prefect server to what this folder says; doing it again changes nothing more.

    python deployments/apply.py

Makes the work pools, registers the block types, saves the broker block of the configured provider,
deploys everything in `prefect.yaml`, makes the automations, and starts the provider's consumer.
"""

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from blocks.broker import Broker
from blocks.providers import PROVIDERS, broker_class, load_broker
from noa_flows.errors import ConfigurationError, NoaError
from noa_flows.prefect_api import PATIENT, PrefectApi, connect_to_prefect
from noa_flows.settings import get_settings
from noa_flows.work_pools import ensure_work_pools, read_work_pools

PROJECT: Final = Path(__file__).resolve().parent.parent
#: The name of the broker block that the consumers of `prefect.yaml` use.
BLOCK_NAME: Final = "noa"


async def apply() -> None:
    """Bring the server that Prefect's settings name to what this project says."""
    broker = await load_broker(get_settings().provider.url)
    async with connect_to_prefect(max_retries=PATIENT) as api:
        await api.check_health()
        await ensure_work_pools(api, read_work_pools(PROJECT / "prefect.yaml"))
        await _save_blocks(broker)
        _deploy()
        for definition in read_automations():
            await upsert_automation(api, definition)
        await _start_consumer(api, broker)


def read_automations() -> list[dict[str, Any]]:
    """Read the automations of this folder."""
    text = (PROJECT / "deployments" / "automations.yaml").read_text(encoding="utf-8")
    return list(yaml.safe_load(text))


async def upsert_automation(api: PrefectApi, definition: Mapping[str, Any]) -> None:
    """Make an automation, or bring it up to date; deployments that it names have to be there."""
    actions = [
        {
            **{name: value for name, value in action.items() if name != "deployment"},
            "deployment_id": (await api.read_deployment(action["deployment"])).id,
        }
        if "deployment" in action
        else action
        for action in definition["actions"]
    ]
    await api.upsert_automation({**definition, "actions": actions})


async def _save_blocks(broker: Broker) -> None:
    """Register all block types, so that Prefect's UI offers them, and save the configured one."""
    for slug in PROVIDERS:
        await broker_class(slug).aregister_type_and_schema()
    await broker.asave(BLOCK_NAME, overwrite=True)
    print(f"Saved the block {broker.get_block_type_slug()}/{BLOCK_NAME}: {broker.address}")


def _deploy() -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(  # noqa: S603 — the command is ours
        command, cwd=PROJECT, check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise ConfigurationError(f"`prefect deploy --all` failed:\n{done.stdout}{done.stderr}")
    print("Deployed everything in prefect.yaml.")


async def _start_consumer(api: PrefectApi, broker: Broker) -> None:
    """Start the consumer at once; where one is at work already, this run leaves again."""
    name = f"consume-{broker.get_block_type_slug().removesuffix('-broker')}/jobs"
    deployment = await api.read_deployment(name)
    await api.create_run(deployment.id, {"name": f"{name.replace('/', '-')}-first"})
    print(f"Started {name}.")


def main() -> None:
    """Apply, and turn a known error into one line."""
    try:
        asyncio.run(apply())
    except NoaError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
