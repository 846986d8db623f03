"""An emulator of SQS, SNS and S3 of the tests' own: fauxqs, fast, and all in memory.

What rests on it says nothing about Amazon, which was never asked.
"""

import json
from pathlib import Path
from urllib.request import urlopen

from tests.servers.node import node_modules
from tests.servers.ports import free_port
from tests.servers.process import ServerProcess
from tests.servers.programs import NODE

REGION = "eu-central-1"

# Its own command logs every request.
_PROGRAM = """
import("fauxqs").then(({{ startFauxqs }}) => startFauxqs({{
    port: {port}, logger: false, defaultRegion: {region},
}}));
"""


class FauxqsServer(ServerProcess):
    """fauxqs on a free port. Killed, it forgets everything: stall it, or cut the wire to it."""

    def __init__(self, *, folder: Path | None = None) -> None:
        super().__init__(folder=folder)
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.url = f"sqs://test:test@{REGION}?endpoint={self.endpoint}"
        self._modules = node_modules()

    def command(self) -> list[str]:
        program = _PROGRAM.format(port=self.port, region=json.dumps(REGION))
        return [str(NODE.require()), "-e", program]

    @property
    def working_folder(self) -> Path:
        return self._modules.parent

    def ready(self) -> bool:
        with urlopen(f"{self.endpoint}/health", timeout=1) as answer:
            return answer.status == 200
