"""A folder that outlives the tests, for what is fetched from registries once."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def cached(name: str) -> Generator[tuple[Path, bool]]:
    """Yield a folder, and whether it has been filled; the block fills it.

    Parallel processes wait for one another; a fill that failed is done again by the next.

    Args:
        name: Names the content: another content has another name.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "noa-flows-tests"
    folder, done = root / name, root / f"{name}.done"
    folder.mkdir(parents=True, exist_ok=True)
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder, done.exists()
        done.touch()
