"""What the fork server imports before the first run comes; importing this module does it.

The processes of the runs are forked from it, and share what is imported here.
"""

import gc
import logging
from contextlib import suppress
from importlib import import_module
from typing import Final

from prefect.client.orchestration import get_client
from pydantic import BaseModel

from noa_flows.jobs import installed_jobs
from noa_flows.prefect_internals import share_ssl_contexts

#: What Prefect imports on the way of a flow run, some of it late.
_MODULES: Final = (
    "anyio._backends._asyncio",
    "encodings.idna",
    "rich._emoji_codes",
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.artifacts",
    "prefect.deployments.steps.core",
    "prefect.deployments.steps.pull",
    "prefect.events.clients",
    "prefect.events.worker",
    "prefect.filesystems",
    "prefect.logging.handlers",
    "prefect.results",
    "prefect.cli",
    "noa_flows.artifacts",
    "noa_flows.worker.attempt",
)


def _preload() -> None:
    jobs = (place.partition(":")[0] for place in installed_jobs().values())
    for name in (*_MODULES, *jobs):
        try:
            import_module(name)
        except Exception:
            # A run that needs it says so itself, where its owner reads it.
            logging.getLogger(__name__).warning("can't import %s ahead", name, exc_info=True)
    _complete_models(BaseModel)
    share_ssl_contexts()
    # Made and dropped for the sake of the certificates that it reads.
    get_client(sync_client=True)
    # What is imported stays; a collection in a run needn't touch, and so copy, its memory.
    gc.collect()
    gc.freeze()


def _complete_models(base: type[BaseModel]) -> None:
    """Build the validators that pydantic would build at their first use, in each run anew."""
    for model in base.__subclasses__():
        if not model.__pydantic_complete__:
            # One that can't be built yet says so where it is used.
            with suppress(Exception):
                model.model_rebuild(raise_errors=False)
        _complete_models(model)


_preload()
