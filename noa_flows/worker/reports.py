"""How a run's process sends logs and events: through its worker, which has a connection already.

Prefect opens clients, threads and a web socket for them in each process. What the worker has got
reaches the server even if the process is killed the moment after.
"""

import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from prefect.events import Event
from prefect.events.worker import EventsWorker, ProcessPoolForwardingEventsClient
from prefect.logging.handlers import APILogWorker, set_api_log_sink


@dataclass(frozen=True)
class Logged:
    """A line of a run's log, as Prefect's API takes it."""

    log: dict[str, Any]


@dataclass(frozen=True)
class Emitted:
    """An event of a run."""

    event: Event


def report_through(worker: Connection) -> None:
    """Send this process's logs and events through its worker, and directly once that is gone."""
    line = _Line(worker)

    def log(entry: dict[str, Any]) -> None:
        if not line.send(Logged(entry)):
            APILogWorker.instance().send(entry)

    set_api_log_sink(log)
    EventsWorker.set_client_override(ProcessPoolForwardingEventsClient, event_queue=_Events(line))


def pass_on(report: Logged | Emitted) -> None:
    """In the worker: send what a run's process reported."""
    if isinstance(report, Logged):
        APILogWorker.instance().send(report.log)
    else:
        EventsWorker.instance().send(report.event)


class _Line:
    """The connection to the worker, shared by the threads of a process."""

    def __init__(self, worker: Connection) -> None:
        self._worker = worker
        self._lock = threading.Lock()

    def send(self, report: Logged | Emitted) -> bool:
        """Send a report; False where the worker is gone."""
        try:
            with self._lock:
                self._worker.send(report)
        except OSError:
            return False
        return True


class _Events:
    """What Prefect's forwarding client takes for a queue."""

    def __init__(self, line: _Line) -> None:
        self._line = line

    def put(self, item: tuple[str, Event]) -> None:
        """Send an event through the worker, or directly."""
        if not self._line.send(Emitted(item[1])):
            EventsWorker.set_client_override(None)
            EventsWorker.instance().send(item[1])
