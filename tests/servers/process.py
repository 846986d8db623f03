"""The life of one real server: start, stall, kill, restart, and never outlive the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.process_family import ProcessFamily
from tests.waiting import wait_until


class ServerFailedError(Exception):
    """A server ended, or did not answer in time, while it was started; quotes its log."""


class ServerProcess(ABC):
    """A program with a data folder and a log, as a context manager.

    A new kind of server says its `command` and when it is `ready`; ports are fixed on construction,
    so that a restart comes back where clients look for it.

    Example:
        with RedisServer(durable=True) as redis:
            redis.kill()
            redis.start()
    """

    #: Asks the program to end in an orderly way.
    stop_signal = signal.SIGTERM
    #: Seconds from the start of the process to the first good answer; slow machines included.
    start_timeout: float = 60

    def __init__(self, *, folder: Path | None = None) -> None:
        """Take a folder to keep data and log in; without one, it is a temporary one."""
        self.name = type(self).__name__
        self._own_folder = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix=f"noa-{self.name}-"))
        self.log_path = self.folder / "server.log"
        self._log_start = 0
        self._family = ProcessFamily()
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The program and its arguments."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it serves; an exception means "not yet"."""

    def environment(self) -> dict[str, str]:
        """The whole environment of the program."""
        return dict(os.environ)

    @property
    def working_folder(self) -> Path:
        """Where the program runs: by default in its data folder."""
        return self.folder

    @property
    def pid(self) -> int:
        """The process id of the program itself, which leads its process group."""
        return self._leader().pid

    def members(self) -> list[int]:
        """The process ids of it and all its descendants."""
        return self._family.members(self.pid)

    @property
    def running(self) -> bool:
        """Whether the program has been started and has not ended, by itself or by a signal."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start it and wait until it serves.

        Raises:
            ServerFailedError: It ended or was not ready in time.
        """
        if self._process is not None:
            self.kill()
        self._spawn()
        try:
            wait_until(
                lambda: not self.running or self.ready(),
                description=f"{self.name} to be ready",
                timeout=self.start_timeout,
            )
        except AssertionError as error:
            self.kill()
            raise ServerFailedError(f"{error}\n{self.log()}") from error
        if not self.running:
            self.kill()
            raise ServerFailedError(f"{self.name} ended while it started\n{self.log()}")
        return self

    def stop(self, timeout: float = 10) -> None:
        """Ask it to end; after the time-out in seconds, kill it."""
        if self.running:
            os.kill(self.pid, self.stop_signal)
            with suppress(subprocess.TimeoutExpired):
                self._leader().wait(timeout)
        self.kill()

    def kill(self) -> None:
        """End it and all its children by SIGKILL, at once; what is not on the disk is lost."""
        if self._process is None:
            return
        self._family.kill(self.pid)
        self._leader().wait()
        self._process = None
        self._dismiss_watchdog()

    def stall(self) -> None:
        """Freeze it and its children: connections stay open and nobody answers."""
        self._family.signal(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `stall`."""
        self._family.signal(self.pid, signal.SIGCONT)

    def restart(self) -> Self:
        """Stop it in an orderly way and start it again, on the same ports and data."""
        self.stop()
        return self.start()

    def close(self) -> None:
        """End it, and remove its folder unless the caller gave one."""
        if not self._own_folder:
            self.stop()
        else:
            self.kill()  # its data goes anyway
            shutil.rmtree(self.folder, ignore_errors=True)

    def log(self, lines: int = 40) -> str:
        """The last lines that it wrote since it was last started."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _spawn(self) -> None:
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.working_folder,
                env={**self.environment(), **self._family.environment},
                start_new_session=True,
            )
        self._watchdog = subprocess.Popen(
            self._family.watchdog(self._process.pid),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _leader(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerFailedError(f"{self.name} is not running; start() it first")
        return self._process

    def _dismiss_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.kill()
            with self._watchdog:  # closes the pipe and reaps it
                self._watchdog = None
