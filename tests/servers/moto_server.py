"""An emulator of AWS of the tests' own: moto, complete, slow, and all in memory.

What rests on it says nothing about Amazon, which was never asked.
"""

import sys
from pathlib import Path
from urllib.request import Request, urlopen

from tests.servers.ports import free_port
from tests.servers.process import ServerProcess

REGION = "eu-central-1"


class MotoServer(ServerProcess):
    """`moto_server` on a free loopback port. Killed, it forgets everything.

    It takes any credentials until `demand_credentials`; then it checks key, signature and policy.
    """

    def __init__(self, *, folder: Path | None = None) -> None:
        super().__init__(folder=folder)
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.url = f"sqs://test:test@{REGION}?endpoint={self.endpoint}"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def ready(self) -> bool:
        with urlopen(f"{self.endpoint}/moto-api/", timeout=1) as answer:
            return answer.status == 200

    def demand_credentials(self) -> None:
        """From now on let in only who has a key, and do only what the policies allow."""
        self._allow_without_credentials(0)

    def take_any_credentials(self) -> None:
        """Undo it."""
        self._allow_without_credentials(10**9)

    def _allow_without_credentials(self, calls: int) -> None:
        address, text = f"{self.endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
        request = Request(address, data=str(calls).encode(), headers=text)
        with urlopen(request, timeout=5) as answer:
            assert answer.status == 200
