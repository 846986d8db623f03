"""What a bare client does: the same work as a provider, in the same batches."""

from typing import Final, Protocol

BATCH: Final = 100
BODY: Final = b'{"type": "noop", "data": {"echo": "' + b"x" * 200 + b'"}}'


class BareClient(Protocol):
    """A driver at work on a queue of its own; blocking, so it is called in a thread."""

    def publish(self, messages: int) -> None:
        """Publish messages in batches, each of which the server has confirmed."""
        ...

    def drain(self, messages: int) -> None:
        """Receive and acknowledge so many."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...
