"""A Redis of the tests' own."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
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
        users: Lines of its list of users, as in "user me on >secret ~orders* +@all"; `url` is for
            the default user.
        options: Further configuration, as in {"maxmemory": "8mb"}.
        folder: Where data and log are kept.
    """

    def __init__(
        self,
        *,
        durable: bool = False,
        password: str | None = None,
        users: Sequence[str] = (),
        options: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(folder=folder)
        self.port = free_port()
        access = self._access(password, users)
        credentials = f":{password}@" if password else ""
        self.url = f"redis://{credentials}127.0.0.1:{self.port}/0"
        self._options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always" if durable else "everysec",
            **access,
            **(options or {}),
        }

    def _access(self, password: str | None, users: Sequence[str]) -> Mapping[str, str]:
        if not users:
            return {"requirepass": password} if password else {}
        default = f"user default on {f'#{_digest(password)}' if password else 'nopass'} ~* &* +@all"
        file = self.folder / "users.acl"
        file.write_text("\n".join((default, *users, "")), encoding="utf-8")
        return {"aclfile": str(file)}

    def command(self) -> list[str]:
        arguments = [word for key, value in self._options.items() for word in (f"--{key}", value)]
        return [str(REDIS.require()), *arguments]

    def ready(self) -> bool:
        from redis import Redis

        with Redis.from_url(self.url) as client:  # pyright: ignore[reportUnknownVariableType]
            return bool(client.ping())


def _digest(password: str) -> str:
    return sha256(password.encode()).hexdigest()
