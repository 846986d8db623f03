"""What the worker of a run has read already, so that the run needn't ask Prefect's server again."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.client.schemas import OrchestrationResult
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

    #: As the server has it, with the state that it has accepted from the worker.
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
            _listen(client, answers)
            _tell_pid(client, self.flow_run.id, infrastructure_pid)
        _spare(PrefectClient, "read_deployment", answers.deployment)


class _Answers:
    """Answers each question once, while it is fresh; None means that the server is to be asked.

    The run is asked for twice: at first, and once it is Running. By then nothing has changed but
    what this process has told the server, and what the server derives from that.
    """

    def __init__(self, known: Known) -> None:
        self._known = known
        self._asked = set[str]()
        self._until = time.monotonic() + _FRESH_SECONDS
        self._told: dict[str, Any] = {}
        #: The run as it is once it has begun, until it is asked for.
        self._begun: FlowRun | None = None
        self._is_followed = True

    def flow_run(self, flow_run_id: UUID) -> FlowRun | None:
        found = self._known.flow_run
        if flow_run_id != found.id:
            return None
        begun, self._begun = self._begun, None
        return self._once("flow run", found) if begun is None else begun

    def deployment(self, deployment_id: UUID) -> DeploymentResponse | None:
        found = self._known.deployment
        if found is None or deployment_id != found.id:
            return None
        return self._once("deployment", found)

    def result_storage(self) -> ServerDefaultResultStorage | None:
        # Prefect asks several times on the way to a run's first line.
        return self._known.result_storage if time.monotonic() < self._until else None

    def note_update(self, flow_run_id: UUID, told: dict[str, Any]) -> None:
        """Remember what the server was told of the run."""
        if flow_run_id == self._known.flow_run.id:
            self._told.update(told)

    def note_other_update(self) -> None:
        """Let the server be asked: what it was told isn't worth following here."""
        self._begun = None
        self._is_followed = False

    def note_state(self, flow_run_id: UUID | str, answer: OrchestrationResult[Any]) -> None:
        """Know the run as it is now, where it has just begun; else let the server be asked."""
        run, state = self._known.flow_run, answer.state
        self._begun = None
        if (
            not self._is_followed
            or str(flow_run_id) != str(run.id)
            or time.monotonic() > self._until
        ):
            return
        if state is None or not state.is_running():
            return
        begun = {
            **self._told,
            "state": state,
            "state_id": state.id,
            "state_name": state.name,
            "state_type": state.type,
            "start_time": run.start_time or state.timestamp,
            "next_scheduled_start_time": None,
            "run_count": run.run_count + (0 if run.empirical_policy.resuming else 1),
        }
        self._begun = run.model_copy(update=begun)
        self._is_followed = False

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

    _replace(client, method, asked_later if _is_async(client) else asked)


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


def _listen(client: type[Any], answers: _Answers) -> None:
    """Let the answers know what this process tells the server of its run."""
    update, set_state = client.update_flow_run, client.set_flow_run_state

    @wraps(update)
    def updated(self: Any, flow_run_id: UUID, *arguments: Any, **named: Any) -> Any:
        if arguments:
            answers.note_other_update()
        else:
            answers.note_update(flow_run_id, named)
        return update(self, flow_run_id, *arguments, **named)

    @wraps(set_state)
    def state_set(self: Any, flow_run_id: UUID | str, *arguments: Any, **named: Any) -> Any:
        answer = set_state(self, flow_run_id, *arguments, **named)
        answers.note_state(flow_run_id, answer)
        return answer

    @wraps(set_state)
    async def state_set_later(
        self: Any, flow_run_id: UUID | str, *arguments: Any, **named: Any
    ) -> Any:
        answer = await set_state(self, flow_run_id, *arguments, **named)
        answers.note_state(flow_run_id, answer)
        return answer

    client.update_flow_run = updated
    _replace(client, "set_flow_run_state", state_set_later if _is_async(client) else state_set)
    for method in ("set_flow_run_name", "update_flow_run_labels"):
        _forget_after(client, method, answers)


def _forget_after(client: type[Any], method: str, answers: _Answers) -> None:
    change = getattr(client, method)

    @wraps(change)
    def changed(self: Any, *arguments: Any, **named: Any) -> Any:
        answers.note_other_update()
        return change(self, *arguments, **named)

    _replace(client, method, changed)


def _replace(client: type[Any], method: str, new: Callable[..., Any]) -> None:
    setattr(client, method, new)


def _is_async(client: type[Any]) -> bool:
    return client is PrefectClient
