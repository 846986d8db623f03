"""A Redis of the tests' own."""

from collections.abc import Mapping
from pathlib import Path

from tests.servers.ports import free_port
from tests.servers.process import ServerProcess
from tests.servers.programs import REDIS


class RedisServer(ServerProcess):
    """`redis-server` with an append-only file, on a free loopback port.

    Args:
        durable: Sync every write to the disk before it is answered, so that a kill loses nothing;
            otherwise Redis syncs once a second.
        password: Asked of every client; also stands in `url`.
        options: Further configuration, as in {"maxmemory": "8mb"}.
        folder: Where data and log are kept.
    """

    def __init__(
        self,
        *,
        durable: bool = False,
        password: str | None = None,
        options: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(folder=folder)
        self.port = free_port()
        credentials = f":{password}@" if password else ""
        self.url = f"redis://{credentials}127.0.0.1:{self.port}/0"
        self._options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always" if durable else "everysec",
            **({"requirepass": password} if password else {}),
            **(options or {}),
        }

    def command(self) -> list[str]:
        arguments = [word for key, value in self._options.items() for word in (f"--{key}", value)]
        return [str(REDIS.require()), *arguments]

    def ready(self) -> bool:
        from redis import Redis

        with Redis.from_url(self.url) as client:  # pyright: ignore[reportUnknownVariableType]
            return bool(client.ping())
