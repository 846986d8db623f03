"""What the consumers took and settled, written down at once, since they may die any time."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.jobs.append_line import append_line


class Journal:
    """A file that consumers append to, and that the test reads on as it grows.

    Args:
        path: The file; it may be missing as long as nobody has taken anything.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._holders: dict[str, int] = {}
        #: Message ids that were handed out more than once, as the broker's own count says.
        self.redelivered: set[str] = set()

    def took(self, deliveries: Iterable[tuple[str, int]]) -> None:
        """Note that this process took messages: id and how often it was delivered, of each."""
        self._write("took", list(deliveries))

    def settled(self, ids: Iterable[str]) -> None:
        """Note that this process settled messages."""
        self._write("settled", list(ids))

    def holders(self) -> set[int]:
        """Read on, and return the processes that have taken messages and not settled them."""
        if self._path.exists():
            with self._path.open() as file:
                file.seek(self._read)
                for line in file:
                    if not line.endswith("\n"):
                        break  # it is just being written
                    self._apply(json.loads(line))
                    self._read += len(line)
        return set(self._holders.values())

    def _write(self, what: str, about: object) -> None:
        append_line(self._path, json.dumps({"pid": os.getpid(), what: about}))

    def _apply(self, line: Mapping[str, Any]) -> None:
        pid: int = line["pid"]
        for message_id, deliveries in line.get("took", ()):
            self._holders[message_id] = pid
            if deliveries > 1:
                self.redelivered.add(message_id)
        for message_id in line.get("settled", ()):
            if self._holders.get(message_id) == pid:
                del self._holders[message_id]
