"""A whole installation on this machine, with nothing to install beside the package.

    python -m deployments.local up      start Prefect, the workers and the consumer
    python -m deployments.local down    stop them
    python -m deployments.local demo    up, two reports from real orders, down

Everything it makes lies in the folder `.noa` of the project.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request, urlopen

from deployments.demo import show

PROJECT: Final = Path(__file__).resolve().parent.parent
HOME: Final = PROJECT / ".noa"
STATE: Final = HOME / "running.json"
_SERVER: Final = PROJECT / "deployments" / "sqlite_server.py"
_FAVOURITE_PORT: Final = 4200
_SERVER_DEADLINE_SECONDS: Final = 90
_STOP_DEADLINE_SECONDS: Final = 20


class LocalInstallation:
    """The processes of a local installation, and the file that remembers them."""

    def __init__(self, port: int) -> None:
        self.api_url = f"http://127.0.0.1:{port}/api"
        self._port = port
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def environment(self) -> Mapping[str, str]:
        """What every process of the installation, and every command for it, is to have."""
        inherited = {name: value for name, value in os.environ.items() if name[:8] != "PREFECT_"}
        return {
            **inherited,
            "PREFECT_HOME": str(HOME / "prefect"),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            # Prefect looks for work every 10 seconds otherwise.
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "NOA_PROVIDER__TYPE": "embedded",
            "NOA_PROVIDER__CONFIG__PATH": str(HOME / "queue.db"),
            "NOA_REPORTS__OUTPUT_FOLDER": str(HOME / "reports"),
        }

    def start(self) -> None:
        """Start the server, then workers and deployments side by side.

        Raises:
            RuntimeError: The server didn't answer in time; with the end of its log.
        """
        HOME.mkdir(exist_ok=True)
        address = ["--host", "127.0.0.1", "--port", str(self._port)]
        self._spawn("server", ["python", "-P", str(_SERVER), *address])
        self._await_server()
        self._bury_the_dead()
        for pool, kind, limit in (("noa", "warm", 2), ("noa-consumers", "process", 8)):
            command = ["prefect", "worker", "start", "--type", kind, "--pool", pool]
            self._spawn(pool, [*command, "--limit", str(limit)])
        self.run([sys.executable, str(PROJECT / "deployments" / "apply.py")])

    def run(self, command: list[str]) -> str:
        """Run a command in the installation's environment, and return what it printed.

        Raises:
            RuntimeError: It failed; with what it printed.
        """
        done = subprocess.run(  # noqa: S603 — our own commands
            command, cwd=PROJECT, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def remember(self) -> None:
        """Write down what runs, for `down`."""
        pids = {name: process.pid for name, process in self._processes.items()}
        STATE.write_text(json.dumps({"api_url": self.api_url, "pids": pids}), encoding="utf-8")

    def stop(self) -> None:
        """Stop workers first, so that they can still say goodbye to the server."""
        for process in reversed(self._processes.values()):
            stop_family(process.pid)
            process.wait()

    def _spawn(self, name: str, command: list[str]) -> None:
        program = Path(sys.executable).parent / command[0]
        with (HOME / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(  # noqa: S603 — our own commands
                [str(program), *command[1:]],
                cwd=HOME,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _bury_the_dead(self) -> None:
        """Say of runs from before the last stop that they are over: no worker is alive yet.

        A new consumer would otherwise take an old one for alive, and leave it the work.
        """
        states = {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}
        crashed = {"type": "CRASHED", "name": "Crashed", "message": "The installation was stopped."}
        for run in self._post("flow_runs/filter", {"flow_runs": {"state": states}}):
            self._post(f"flow_runs/{run['id']}/set_state", {"state": crashed, "force": True})

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        request = Request(  # noqa: S310 — loopback
            f"{self.api_url}/{path}",
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urlopen(request, timeout=30) as answer:  # noqa: S310 — loopback
            return json.load(answer)

    def _await_server(self) -> None:
        deadline = time.monotonic() + _SERVER_DEADLINE_SECONDS
        while time.monotonic() < deadline and self._processes["server"].poll() is None:
            try:
                with urlopen(f"{self.api_url}/health", timeout=2) as answer:  # noqa: S310 — loopback
                    if answer.status == 200:  # noqa: PLR2004
                        return
            except (URLError, OSError):
                time.sleep(0.2)
        tail = (HOME / "server.log").read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"Prefect's server did not start:\n{tail}")


def stop_family(pid: int) -> None:
    """End a process group and whatever descends from its leader: politely, then for good.

    Workers stop their flow runs themselves, which are in groups of their own; but a worker that has
    to be killed leaves them behind.
    """
    family = _descendants(pid)
    for sign, targets in ((signal.SIGTERM, [-pid]), (signal.SIGKILL, [-pid, *family])):
        for target in targets:
            with suppress(ProcessLookupError):
                os.kill(target, sign)
        deadline = time.monotonic() + _STOP_DEADLINE_SECONDS
        while any(one.group == pid or one.pid in family for one in _processes()):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        else:
            return


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    group: int


def _descendants(pid: int) -> set[int]:
    children = defaultdict[int, list[int]](list)
    for process in _processes():
        children[process.parent].append(process.pid)
    found, todo = set[int](), [pid]
    while todo:
        fresh = children[todo.pop()]
        todo.extend(fresh)
        found.update(fresh)
    return found


def _processes() -> Iterator[_Process]:
    """All processes but zombies."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, group = entry.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if state != "Z":
            yield _Process(int(entry.parent.name), int(parent), int(group))


def up() -> None:
    """Start an installation, and leave it running."""
    if STATE.exists():
        sys.exit("error: it is running already, or `down` was forgotten; run `make down`")
    installation = LocalInstallation(_free_port())
    try:
        installation.start()
    except BaseException:
        installation.stop()
        raise
    installation.remember()
    environment = installation.environment
    print(f"Prefect's UI:  {installation.api_url.removesuffix('/api')}")
    print("For commands such as `noa publish` in this shell:")
    for name in sorted(environment):
        if name.startswith(("PREFECT_", "NOA_")):
            print(f"  export {name}={environment[name]}")
    print("`make down` stops it.")


def down() -> None:
    """Stop what `up` has started."""
    if not STATE.exists():
        print("Nothing is running.")
        return
    for pid in reversed(json.loads(STATE.read_text(encoding="utf-8"))["pids"].values()):
        stop_family(int(pid))
    STATE.unlink()
    print("Stopped.")


def demo() -> None:
    """Show the main job: messages become runs, runs become reports."""
    began = time.monotonic()
    installation = LocalInstallation(_free_port())
    try:
        installation.start()
        print(f"Prefect and the workers are up after {time.monotonic() - began:.0f} s.")
        show(installation.run)
    finally:
        installation.stop()
    print(
        f"Stopped everything after {time.monotonic() - began:.0f} s. `make up` leaves it running."
    )


def _free_port() -> int:
    """Prefect's usual port where it is free, or any other."""
    for port in (_FAVOURITE_PORT, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise RuntimeError("no free port on 127.0.0.1")


def main() -> None:
    """Dispatch on the command."""
    # Started in the background of a script, it would hand on that SIGINT is ignored; but that is
    # how Prefect stops a worker.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    commands = {"up": up, "down": down, "demo": demo}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:  # noqa: PLR2004
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(commands)}")
    try:
        commands[sys.argv[1]]()
    except RuntimeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
