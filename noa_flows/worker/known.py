"""What the worker of a run has read already, so that the run needn't ask Prefect's server again."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.client.schemas.objects import (
    Flow,
    FlowRun,
    ServerDefaultResultStorage,
    WorkPool,
    WorkQueue,
)
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.related import RESOURCE_CACHE
from prefect.types import DateTime

from noa_flows.prefect_internals import spare_greetings

#: What isn't asked for within it is asked of the server, as it may have changed.
_FRESH_SECONDS: Final = 5


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the worker read of a run, at most a second before the run's process began."""

    #: With the state that the server has accepted from the worker.
    flow_run: FlowRun
    flow: Flow
    deployment: DeploymentResponse | None
    work_pool: WorkPool
    work_queue: WorkQueue | None
    result_storage: ServerDefaultResultStorage
    api_url: str
    #: The server wants no tokens against forged requests.
    csrf_off: bool

    def related(self) -> Iterator[tuple[str, Any]]:
        """Yield what events of the run name as related: kind and object."""
        yield "flow", self.flow
        yield "deployment", self.deployment
        yield "work-queue", self.work_queue

    def answer(self, *, infrastructure_pid: str) -> None:
        """Let the clients of this process answer from here, where they would ask for the same.

        The engine's first update of the run, with its version and retries, tells the process id as
        well; Prefect's worker makes a call for it.
        """
        for kind, found in self.related():
            if found is not None:
                RESOURCE_CACHE[f"{kind}.{found.id}"] = _entry(kind, found)
        RESOURCE_CACHE[f"work-pool.{self.work_pool.name}"] = _entry("work-pool", self.work_pool)

        spare_greetings(self.api_url, csrf_off=self.csrf_off)
        answers = _Answers(self)
        for client in (SyncPrefectClient, PrefectClient):
            _spare(client, "read_flow_run", answers.flow_run)
            _spare(client, "read_server_default_result_storage", answers.result_storage)
            _tell_pid(client, self.flow_run.id, infrastructure_pid)
        _spare(PrefectClient, "read_deployment", answers.deployment)


class _Answers:
    """Answers each question once, while it is fresh; None means that the server is to be asked."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._asked = set[str]()
        self._until = time.monotonic() + _FRESH_SECONDS

    def flow_run(self, flow_run_id: UUID) -> FlowRun | None:
        found = self._known.flow_run
        return self._once("flow run", found) if flow_run_id == found.id else None

    def deployment(self, deployment_id: UUID) -> DeploymentResponse | None:
        found = self._known.deployment
        if found is None or deployment_id != found.id:
            return None
        return self._once("deployment", found)

    def result_storage(self) -> ServerDefaultResultStorage | None:
        # Prefect asks several times on the way to a run's first line.
        return self._known.result_storage if time.monotonic() < self._until else None

    def _once(self, what: str, found: Any) -> Any:
        if what in self._asked or time.monotonic() > self._until:
            return None
        self._asked.add(what)
        return found


def _entry(kind: str, found: Any) -> Any:
    return {"kind": kind, "object": found}, DateTime.now("UTC")


def _spare(client: type[Any], method: str, answer: Callable[..., Any]) -> None:
    """Let a client's method try an answer first."""
    ask = getattr(client, method)

    @wraps(ask)
    def asked(self: Any, *arguments: Any, **named: Any) -> Any:
        found = answer(*arguments, **named)
        return ask(self, *arguments, **named) if found is None else found

    @wraps(ask)
    async def asked_later(self: Any, *arguments: Any, **named: Any) -> Any:
        found = answer(*arguments, **named)
        return await ask(self, *arguments, **named) if found is None else found

    setattr(client, method, asked_later if client is PrefectClient else asked)


def _tell_pid(client: type[Any], told_run: UUID, pid: str) -> None:
    update = client.update_flow_run
    told = False

    @wraps(update)
    def updated(self: Any, flow_run_id: UUID, *arguments: Any, **named: Any) -> Any:
        nonlocal told
        if flow_run_id == told_run and not told and not arguments:
            told = True
            named.setdefault("infrastructure_pid", pid)
        return update(self, flow_run_id, *arguments, **named)

    client.update_flow_run = updated
