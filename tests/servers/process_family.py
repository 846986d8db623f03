"""Every process that a started server consists of, wherever its children have gone."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.waiting import wait_until

_VARIABLE = "NOA_TEST_FAMILY"


class ProcessFamily:
    """A server's leader, its group, its children, and what inherited the family's mark.

    A process group alone does not do: PostgreSQL's backends and the flows of Prefect's process
    worker make sessions of their own, and an orphan has lost its parent. The mark is an environment
    variable, which every descendant inherits and none drops.
    """

    def __init__(self) -> None:
        self._mark = secrets.token_hex(8)

    @property
    def environment(self) -> dict[str, str]:
        """What the leader needs in its environment."""
        return {_VARIABLE: self._mark}

    def signal(self, leader: int, number: signal.Signals) -> set[int]:
        """Send a signal to all of them and return the process ids of those found."""
        members = self.members(leader)
        for pid in members:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        return set(members)

    def kill(self, leader: int) -> None:
        """End all of them by SIGKILL and wait until they have let go of ports and files."""
        seen: set[int] = set()

        def gone() -> bool:
            found = self.signal(leader, signal.SIGKILL)
            seen.update(found)
            # A dying process loses its environment, and so its mark, before it closes its files.
            return not found and not any(map(is_alive, seen))

        wait_until(gone, description="killed processes to be gone", interval=0.005)

    def watchdog(self, leader: int) -> list[str]:
        """A command that kills the family when its standard input ends.

        The pipe ends with the process that holds it, even if that is killed by SIGKILL. The
        kernel's parent-death signal does not do: it fires when the thread that started the server
        ends, and reaches no grandchildren.
        """
        script = (
            'read -r _; kill -s KILL -- "-$1"; '
            'grep -lszxF -- "$2" /proc/[0-9]*/environ | cut -d/ -f3 | xargs -r kill -s KILL'
        )
        return ["sh", "-c", script, "watchdog", str(leader), f"{_VARIABLE}={self._mark}"]

    def members(self, leader: int) -> list[int]:
        """The process ids of all that are alive."""
        return list(self._find(leader))

    def _find(self, leader: int) -> Iterator[int]:
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state, parent, group = _status(folder)
                marked = f"{_VARIABLE}={self._mark}".encode() in _environment(folder)
            except OSError:  # gone while we looked
                continue
            if state != "Z" and (leader in (parent, group) or marked):
                yield int(folder.name)


def is_alive(pid: int) -> bool:
    """Whether the process exists and is more than a zombie."""
    try:
        return _status(Path("/proc") / str(pid))[0] != "Z"
    except OSError:
        return False


def _status(folder: Path) -> tuple[str, int, int]:
    """State letter, parent and process group; see proc(5) under /proc/pid/stat."""
    # The name of the program comes first, in parentheses, and may hold anything.
    state, parent, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
    return state, int(parent), int(group)


def _environment(folder: Path) -> list[bytes]:
    try:
        return (folder / "environ").read_bytes().split(b"\0")
    except PermissionError:  # somebody else's process
        return []
