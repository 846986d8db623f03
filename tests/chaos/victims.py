"""Finds the processes that a warm worker consists of, in Linux' /proc."""

from collections.abc import Iterator
from pathlib import Path


def run_processes(folder: Path) -> set[int]:
    """The processes that have been given a run: each works in a folder of its own below this."""
    return {pid for pid in _all() if _works_below(pid, folder)}


def fork_server(worker: int) -> int | None:
    """The process that forks a worker's processes; None where there is none at the moment."""
    children = (pid for pid in _all() if _parent(pid) == worker)
    return next((pid for pid in children if b"forkserver" in _command(pid)), None)


def children(parent: int) -> set[int]:
    """The processes that a process has started, and that are alive."""
    return {pid for pid in _all() if _parent(pid) == parent}


def _all() -> Iterator[int]:
    return (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))


def _works_below(pid: int, folder: Path) -> bool:
    try:
        return str(Path(f"/proc/{pid}/cwd").readlink()).startswith(f"{folder}/noa-run-")
    except OSError:  # gone while we looked, or somebody else's
        return False


def _parent(pid: int) -> int | None:
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
