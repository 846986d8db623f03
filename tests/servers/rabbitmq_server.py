"""A RabbitMQ of the tests' own."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from tests.servers.ports import free_port
from tests.servers.process import ServerProcess
from tests.servers.programs import RABBITMQ, RABBITMQCTL


class RabbitMQServer(ServerProcess):
    """One RabbitMQ node on free loopback ports, with a port mapper and a cookie of its own.

    Args:
        username: The user with all rights; also stands in `url`.
        password: Its password.
        users: Further users, name → password; each has the rights in `permissions`.
        permissions: Patterns of what the further users may configure, write and read.
        options: Further configuration, as in {"heartbeat": "2"}.
        folder: Where data and log are kept.
    """

    start_timeout = 120

    def __init__(
        self,
        *,
        username: str = "tests",
        password: str = "correct horse",
        users: Mapping[str, str] | None = None,
        permissions: tuple[str, str, str] = ("", ".*", ".*"),
        options: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(folder=folder)
        self.port = free_port()
        self.username, self.password = username, password
        self.url = f"amqp://{username}:{quote(password, safe='')}@127.0.0.1:{self.port}/%2F"
        self._node_port = free_port()
        self._mapper_port = free_port()
        self._write_definitions(users or {}, permissions)
        self._write_configuration(options or {})

    def command(self) -> list[str]:
        return [str(RABBITMQ.require())]

    def environment(self) -> dict[str, str]:
        folder = self.folder
        return {
            **{name: text for name, text in os.environ.items() if "RABBITMQ" not in name},
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"rb{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            # Two schedulers do for tests, and spin less on a shared machine.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none",
        }

    def ready(self) -> bool:
        import pika

        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            pass  # pika would log each refusal at length
        login = pika.PlainCredentials(self.username, self.password)
        parameters = pika.ConnectionParameters("127.0.0.1", self.port, credentials=login)
        pika.BlockingConnection(parameters).close()
        return True

    def settle(self) -> None:
        """Have on the disk which queues there are: by itself RabbitMQ writes that seconds later."""
        self.control("eval", "mnesia:dump_log(), [dets:sync(Table) || Table <- dets:all()].")

    def control(self, *arguments: str) -> str:
        """Run `rabbitmqctl`, and return what it printed."""
        command = [str(RABBITMQCTL.require()), "--quiet", *arguments]
        done = subprocess.run(
            command, env=self.environment(), check=True, capture_output=True, text=True
        )
        return done.stdout

    def _write_definitions(self, users: Mapping[str, str], rights: tuple[str, str, str]) -> None:
        everybody = {self.username: self.password, **users}
        granted = dict.fromkeys(users, rights) | {self.username: (".*", ".*", ".*")}
        definitions = {
            "vhosts": [{"name": "/"}],
            "users": [
                {"name": name, "password": word, "tags": "administrator"}
                for name, word in everybody.items()
            ],
            "permissions": [
                {"user": name, "vhost": "/", "configure": made, "write": written, "read": read}
                for name, (made, written, read) in granted.items()
            ],
        }
        (self.folder / "definitions.json").write_text(json.dumps(definitions))

    def _write_configuration(self, options: Mapping[str, str]) -> None:
        lines = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "load_definitions": str(self.folder / "definitions.json"),
            "log.console.level": "warning",
            "disk_free_limit.absolute": "50MB",
            **options,
        }
        text = "\n".join(f"{name} = {value}" for name, value in lines.items())
        (self.folder / "rabbitmq.conf").write_text(f"{text}\n")
        (self.folder / "plugins").write_text("[].\n")
        cookie = self.folder / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(self.folder.name.replace("-", "").upper()[:20].ljust(20, "X"))
            shutil.copymode(self.folder, cookie)
            cookie.chmod(0o400)
