"""What a deployment, or its work pool, asks for the processes of its flow runs."""

import os
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from prefect.settings import Settings, get_current_settings
from prefect.workers.process import ProcessJobConfiguration, ProcessVariables
from pydantic import Field
from typing_extensions import override

from noa_flows.prefect_internals import has_own_command
from noa_flows.settings import get_settings

#: What an interpreter reads when it starts: a run that changes these gets one of its own.
_INTERPRETER_VARIABLES: Final = ("PYTHON", "LD_", "DYLD_", "MALLOC_", "OMP_", "OPENBLAS_", "MKL_")
_AUTO_INSTALL: Final = "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES"
#: Prefect's own 5 give a server a minute to come back, and a run whose last report fails after that
#: passes for failed, its work done or not. The pauses double: 8 minutes.
_PATIENCE: Final = {"PREFECT_CLIENT_MAX_RETRIES": "8"}
_YES: Final = frozenset({"1", "true", "t", "yes", "y", "on"})
_MEMORY_LIMIT: Final = Field(
    default=None,
    ge=64,
    title="Memory Limit (MiB)",
    description="Resident memory above which the flow run's process is killed. Default: the "
    "setting `workers.memory_limit_mib` of noa-flows.",
)


class WarmVariables(ProcessVariables):
    """The job variables of a warm work pool."""

    memory_limit_mib: int | None = _MEMORY_LIMIT


class WarmJobConfiguration(ProcessJobConfiguration):
    """The job variables, filled in; as for Prefect's process worker, and a memory limit."""

    memory_limit_mib: int | None = _MEMORY_LIMIT

    @classmethod
    @override
    def _base_environment(cls) -> dict[str, str]:
        return dict(settings_as_environment())

    @property
    def environment(self) -> Mapping[str, str]:
        """Everything that the process is to have, the worker's own environment included."""
        given = {name: value for name, value in self.env.items() if value is not None}
        # The worker runs these hooks: the process may be gone by then.
        return {**given, "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false"}

    @property
    def memory_limit_bytes(self) -> int | None:
        """Resident memory above which the process is killed."""
        mebibytes = self.memory_limit_mib or get_settings().workers.memory_limit_mib
        return None if mebibytes is None else mebibytes * 2**20

    def folder(self) -> AbstractContextManager[str | Path]:
        """Where the process works: the folder asked for, or a new one that goes with the run."""
        if self.working_dir is not None:
            return nullcontext(self.working_dir)
        return tempfile.TemporaryDirectory(prefix="noa-run-", ignore_cleanup_errors=True)

    def needs_its_own_interpreter(self) -> bool:
        """Whether a process that is started already can't be what is asked for."""
        environment = self.environment
        changed = {
            name
            for name in {*environment, *os.environ}
            if environment.get(name) != os.environ.get(name)
        }
        return (
            has_own_command(self)
            or environment.get(_AUTO_INSTALL, "false").lower() in _YES
            or any(name.startswith(_INTERPRETER_VARIABLES) for name in changed)
        )


_written: tuple[Settings, Mapping[str, str]] | None = None


def settings_as_environment() -> Mapping[str, str]:
    """Write Prefect's settings for the runs as environment variables, once while they are the same.

    Prefect does it for each run, and it takes as long as all else that its worker does for one.
    """
    global _written  # noqa: PLW0603 — a cache of one
    settings = get_current_settings()
    if _written is None or _written[0] is not settings:
        written = settings.to_environment_variables(exclude_unset=True)
        _written = settings, {**_PATIENCE, **written}
    return _written[1]
