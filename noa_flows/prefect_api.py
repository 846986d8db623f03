"""Prefect's API as noa-flows uses it: every endpoint is named here, and nowhere else.

Calls are not retried inside, unless asked for: the caller knows what may be repeated, and a circuit
breaker wants to see each failure. A failed call that may have been carried out all the same raises
like any other, so an answer is the only proof.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final, cast

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from noa_flows.errors import NotFoundError, PrefectApiError, PrefectApiUnavailableError

#: The most runs that one bulk call creates; Prefect's own limit.
BULK_LIMIT: Final = 100

_TEMPORARY_STATUSES: Final = frozenset({408, 429, 502, 503, 504})
_PAGE: Final = 200
#: For commands and start-up, where a person waits and nothing else is tried meanwhile.
PATIENT: Final = 4


class Endpoint(StrEnum):
    """The endpoints of Prefect's REST API in use, as method and path."""

    HEALTH = "GET /health"
    #: Called by Prefect's client itself, before its first call that writes.
    CSRF_TOKEN = "GET /csrf-token"  # noqa: S105 — a path
    DEPLOYMENT_BY_NAME = "GET /deployments/name/{flow}/{deployment}"
    BULK_CREATE = "POST /deployments/{id}/create_flow_run/bulk"
    CREATE = "POST /deployments/{id}/create_flow_run"
    READ_RUN = "GET /flow_runs/{id}"
    FILTER_RUNS = "POST /flow_runs/filter"
    COUNT_RUNS = "POST /flow_runs/count"
    SET_RUN_STATE = "POST /flow_runs/{id}/set_state"
    RUN_STATES = "GET /flow_run_states/?flow_run_id={id}"
    FILTER_EVENTS = "POST /events/filter"
    READ_WORK_POOL = "GET /work_pools/{name}"
    CREATE_WORK_POOL = "POST /work_pools/"
    READ_WORK_QUEUE = "GET /work_pools/{pool}/queues/{name}"
    CREATE_WORK_QUEUE = "POST /work_pools/{pool}/queues"
    UPDATE_WORK_QUEUE = "PATCH /work_pools/{pool}/queues/{name}"
    FILTER_AUTOMATIONS = "POST /automations/filter"
    CREATE_AUTOMATION = "POST /automations/"
    UPDATE_AUTOMATION = "PUT /automations/{id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeploymentRef:
    """A deployment, as far as creating runs of it needs."""

    id: str
    flow_id: str
    name: str
    #: None for a deployment without a work pool: its runs go to no work queue.
    work_pool: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class BulkItem:
    """What a bulk call said of one run."""

    run_id: str | None
    error: str | None


class PrefectApi:
    """A connection to Prefect's API.

    Example:
        >>> async with connect_to_prefect() as api:
        ...     deployment = await api.read_deployment("report/report")
    """

    def __init__(self, client: PrefectClient) -> None:
        self._client = client

    async def check_health(self) -> None:
        """Raise where the API doesn't answer, or says that it isn't well."""
        await self._call(Endpoint.HEALTH)

    async def read_deployment(self, name: str) -> DeploymentRef:
        """Look up a deployment by `flow/deployment`.

        Raises:
            NotFoundError: There is none of that name.
        """
        flow, _, deployment = name.partition("/")
        try:
            found = await self._call(
                Endpoint.DEPLOYMENT_BY_NAME, path={"flow": flow, "deployment": deployment}
            )
        except PrefectApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                raise NotFoundError(
                    f"there is no deployment {name!r} in Prefect; make it with "
                    "`prefect deploy`, or correct the consumer's `deployments`"
                ) from error
            raise
        return DeploymentRef(
            id=found["id"],
            flow_id=found["flow_id"],
            name=name,
            work_pool=found.get("work_pool_name"),
        )

    async def create_runs(
        self, deployment_id: str, runs: Sequence[Mapping[str, Any]]
    ) -> Sequence[BulkItem]:
        """Create up to `BULK_LIMIT` runs in one transaction, and return what is said of each.

        Only where no item has failed are the others to be believed: an error in the database rolls
        back runs that the answer calls created.
        """
        answer = await self._call(Endpoint.BULK_CREATE, path={"id": deployment_id}, json=list(runs))
        return [
            BulkItem(run_id=item.get("flow_run_id"), error=item.get("error"))
            for item in answer["results"]
        ]

    async def create_run(self, deployment_id: str, run: Mapping[str, Any]) -> str:
        """Create one run, or find the one that has its key, and return its id."""
        answer = await self._call(Endpoint.CREATE, path={"id": deployment_id}, json=run)
        return str(answer["id"])

    async def find_runs(self, flow_id: str, keys: Sequence[str]) -> Mapping[str, str]:
        """Look up runs by idempotency key: key → run id, for those that exist."""
        found = await self._call(
            Endpoint.FILTER_RUNS,
            json={
                # Keys are unique per flow, and so is the index that finds them.
                "flows": {"id": {"any_": [flow_id]}},
                "flow_runs": {"idempotency_key": {"any_": list(keys)}},
                "limit": _PAGE,
            },
        )
        return {run["idempotency_key"]: run["id"] for run in found}

    async def filter_runs(
        self, flow_runs: Mapping[str, Any], *, limit: int = _PAGE, offset: int = 0
    ) -> Sequence[Mapping[str, Any]]:
        """Return the runs that match Prefect's flow run filter, the newest first."""
        return await self._call(
            Endpoint.FILTER_RUNS,
            json={
                "flow_runs": flow_runs,
                "limit": limit,
                "offset": offset,
                "sort": "EXPECTED_START_TIME_DESC",
            },
        )

    async def read_run(self, run_id: str) -> Mapping[str, Any]:
        """Return a run as it is now."""
        return await self._call(Endpoint.READ_RUN, path={"id": run_id})

    async def find_all_runs(
        self, flow_runs: Mapping[str, Any]
    ) -> AsyncGenerator[Mapping[str, Any]]:
        """Walk over all runs that match a filter, which none of them may leave meanwhile."""
        offset = 0
        while page := await self.filter_runs(flow_runs, offset=offset):
            for run in page:
                yield run
            offset += len(page)

    async def count_runs(self, flow_runs: Mapping[str, Any]) -> int:
        """Count the runs that match Prefect's flow run filter."""
        return int(await self._call(Endpoint.COUNT_RUNS, json={"flow_runs": flow_runs}))

    async def force_state(self, run_id: str, *, state_type: str, name: str, message: str) -> None:
        """Set a run's state, whatever Prefect's rules of transition say."""
        state = {"type": state_type, "name": name, "message": message}
        await self._call(
            Endpoint.SET_RUN_STATE, path={"id": run_id}, json={"state": state, "force": True}
        )

    async def schedule_again(self, run_id: str, *, at: datetime, message: str) -> bool:
        """Let a run that has ended be executed again, and return whether Prefect agrees."""
        state = {
            "type": "SCHEDULED",
            "name": "AwaitingRetry",
            "message": message,
            "state_details": {"scheduled_time": at.isoformat()},
        }
        answer = await self._call(
            Endpoint.SET_RUN_STATE, path={"id": run_id}, json={"state": state}
        )
        return bool(answer["status"] == "ACCEPT")

    async def read_states(self, run_id: str) -> Sequence[Mapping[str, Any]]:
        """Return the states that a run has been in, in the order in which they were asked for."""
        states = await self._call(Endpoint.RUN_STATES, path={"id": run_id})
        return sorted(states, key=lambda state: state["timestamp"])

    async def last_event(self, event: str, resource_id: str) -> Mapping[str, Any] | None:
        """Return the newest event of one kind about one resource."""
        answer = await self._call(
            Endpoint.FILTER_EVENTS,
            json={
                "filter": {
                    "event": {"name": [event]},
                    "resource": {"id": [resource_id]},
                    "order": "DESC",
                },
                "limit": 1,
            },
        )
        return next(iter(answer["events"]), None)

    async def ensure_work_pool(self, name: str, *, kind: str, description: str) -> bool:
        """Make a work pool unless it is there, and return whether it was made."""
        try:
            await self._call(Endpoint.READ_WORK_POOL, path={"name": name})
        except PrefectApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            body = {"name": name, "type": kind, "description": description}
            await self._call(Endpoint.CREATE_WORK_POOL, json=body)
            return True
        return False

    async def ensure_work_queue(self, pool: str, name: str, *, priority: int) -> None:
        """Make a work queue, or set its priority: 1 is served first."""
        path = {"pool": pool, "name": name}
        try:
            await self._call(Endpoint.UPDATE_WORK_QUEUE, path=path, json={"priority": priority})
        except PrefectApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            await self._call(
                Endpoint.CREATE_WORK_QUEUE, path=path, json={"name": name, "priority": priority}
            )

    async def upsert_automation(self, definition: Mapping[str, Any]) -> bool:
        """Make an automation, or bring the one of that name up to date; True where it was made."""
        found = await self._call(
            Endpoint.FILTER_AUTOMATIONS,
            json={"automations": {"name": {"any_": [definition["name"]]}}},
        )
        if not found:
            await self._call(Endpoint.CREATE_AUTOMATION, json=definition)
            return True
        await self._call(Endpoint.UPDATE_AUTOMATION, path={"id": found[0]["id"]}, json=definition)
        return False

    async def _call(
        self, endpoint: Endpoint, *, path: Mapping[str, str] | None = None, json: Any = None
    ) -> Any:
        method, _, template = endpoint.value.partition(" ")
        quoted = {name: _quote(value) for name, value in (path or {}).items()}
        try:
            # The client's own annotation lists Prefect's routes, most of ours among them.
            response = await self._client.request(
                cast("Any", method), cast("Any", template), path_params=quoted, json=json
            )
        except PrefectHTTPStatusError as error:
            raise _refused(endpoint, error.response) from error
        except (httpx.HTTPError, OSError, RuntimeError) as error:
            raise PrefectApiUnavailableError(
                f"{endpoint.value}: no answer from Prefect's API ({error!r}); "
                "is the server at PREFECT_API_URL running?"
            ) from error
        return response.json() if response.content else None


@asynccontextmanager
async def connect_to_prefect(*, max_retries: int = 0) -> AsyncGenerator[PrefectApi]:
    """Connect to the API that Prefect's own settings name.

    Args:
        max_retries: How often Prefect's client repeats a call that failed for the moment, such as
            one to a server whose SQLite is locked. 0 for a bridge, which judges failures itself.
    """
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: max_retries}):
        async with get_client() as client:
            yield PrefectApi(client)


def _quote(value: str) -> str:
    from urllib.parse import quote

    return quote(value, safe="")


def _refused(endpoint: Endpoint, response: httpx.Response) -> PrefectApiError:
    status, text = response.status_code, response.text[:500]
    described = f"{endpoint.value}: Prefect's API answered {status}: {text}"
    if status in _TEMPORARY_STATUSES:
        return PrefectApiUnavailableError(described, status=status)
    return PrefectApiError(described, status=status)
