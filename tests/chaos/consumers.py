"""The consumers of a chaos test, as a server among the others."""

import sys
from collections.abc import Mapping

from tests.chaos.consumer_process import READY, Assignment
from tests.project import PROJECT
from tests.servers.prefect_environment import prefect_environment
from tests.servers.process import ServerProcess


class Consumers(ServerProcess):
    """One or two consumer processes at a time; each that is killed is replaced at once.

    Args:
        assignment: What they consume.
        settings: Environment variables: where Prefect is, and the settings of noa-flows.
    """

    def __init__(self, assignment: Assignment, *, settings: Mapping[str, str]) -> None:
        super().__init__()
        self._assignment = assignment
        self._settings = settings

    def command(self) -> list[str]:
        program = "tests.chaos.consumer_process"
        return [sys.executable, "-m", program, self._assignment.model_dump_json()]

    def environment(self) -> dict[str, str]:
        own = {"PYTHONPATH": str(PROJECT)}
        return {**prefect_environment(self.folder), **self._settings, **own}

    def ready(self) -> bool:
        return READY in self.log()

    def living(self) -> set[int]:
        """The process ids of the consumers that are alive."""
        return set(self.members()) - {self.pid}

    def check(self) -> None:
        """Raise an AssertionError that quotes the log where a consumer has ended by itself."""
        assert self.running, f"a consumer was not killed, but ended by itself:\n{self.log()}"
