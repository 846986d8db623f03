"""Loopback ports for servers that must come back on the same one."""

import secrets
import socket

# Below the range from which the kernel lends ports to outgoing connections (32768 and up): a
# server that was killed must find its port free when it starts again.
_FIRST, _LAST = 20_000, 32_000


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, outside of the kernel's ephemeral range."""
    # `secrets`, since pytest-randomly gives each parallel worker the same seed for `random`.
    while True:
        port = _FIRST + secrets.randbelow(_LAST - _FIRST)
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
