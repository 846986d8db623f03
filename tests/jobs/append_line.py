"""One line more in a file that several processes write to, and may die over."""

import os
from pathlib import Path


def append_line(path: Path, line: str) -> None:
    """Append in one step, so that processes neither mix their lines nor lose them."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)
