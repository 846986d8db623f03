"""The job types: one file each, and one line here.

Others add theirs with an entry point in the group `noa_flows.jobs`, or in the setting `jobs`.
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final, cast

from noa_flows.errors import ConfigurationError, NotFoundError
from noa_flows.job import Job, JobFlow
from noa_flows.settings import get_settings
from noa_flows.validation import closest

BUILT_IN: Final[Mapping[str, str]] = {
    "noop": "noa_flows.jobs.noop_job:noop",
    "report": "noa_flows.jobs.report_job:report",
    "webhook": "noa_flows.jobs.webhook_job:webhook",
}

AnyJob = Job[Any, Any]


def installed_jobs() -> Mapping[str, str]:
    """Where the job types of packages live, ours and others', as `module:flow`."""
    others = {entry.name: entry.value for entry in entry_points(group="noa_flows.jobs")}
    return {**others, **BUILT_IN}


def job_locations() -> Mapping[str, str]:
    """Where each job type lives, as `module:flow`, without importing any of them."""
    return {**installed_jobs(), **get_settings().jobs, **BUILT_IN}


@cache
def find_job(name: str) -> AnyJob:
    """Import a job by its type.

    Raises:
        NotFoundError: There is no such job type.
        ConfigurationError: Its location doesn't lead to a job.
    """
    locations = job_locations()
    if name not in locations:
        known = ", ".join(sorted(locations))
        raise NotFoundError(
            f"there is no job type {name!r}{closest(name, locations)} (known: {known})"
        )
    module, _, attribute = locations[name].partition(":")
    try:
        found = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"job type {name!r}: {locations[name]!r} can't be loaded: {error}"
        ) from error
    if not isinstance(found, JobFlow):
        raise ConfigurationError(
            f"job type {name!r}: {locations[name]!r} isn't made by the decorator @job"
        )
    return cast("JobFlow[Any, Any]", found).job
