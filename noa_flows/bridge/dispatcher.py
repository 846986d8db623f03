"""Hand-over: orders become runs, exactly one each, whatever answers are lost on the way.

The rule: a run exists where Prefect's API has shown it. A bulk answer without a failed item is such
a proof; after anything else the runs are read back by their keys, and the missing ones are created
singly. Since a key has one run, doing any of it again is harmless.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from noa_flows.bridge.order import Order, work_queue
from noa_flows.claim_check import store_parameters
from noa_flows.errors import NotFoundError, PrefectApiError, PrefectApiUnavailableError
from noa_flows.labels import DATAREF
from noa_flows.prefect_api import BULK_LIMIT, DeploymentRef, PrefectApi

_MAX_BULK_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The order's run exists."""

    order: Order
    run_id: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """Prefect refuses this very order."""

    order: Order
    error: PrefectApiError
    #: It would refuse it again.
    permanent: bool


@dataclass(frozen=True, slots=True)
class _Request:
    order: Order
    body: Mapping[str, Any]
    size: int


class Dispatcher:
    """Creates the runs of orders."""

    def __init__(self, api: PrefectApi, *, storage: Path, inline_bytes: int) -> None:
        self._api = api
        self._storage = storage
        self._inline_bytes = inline_bytes
        self._deployments: dict[str, DeploymentRef] = {}
        self._bulk_is_missing = False

    async def hand_over(self, orders: Sequence[Order]) -> Sequence[HandedOver | Rejected]:
        """Create the runs, and return what became of each order, in no particular order.

        Raises:
            PrefectApiUnavailableError: Prefect is away. Some runs may exist; call again.
            NotFoundError: A deployment is missing.
        """
        results: list[HandedOver | Rejected] = []
        by_deployment = sorted(orders, key=lambda order: (order.deployment, order.key))
        for name, group in groupby(by_deployment, key=lambda order: order.deployment):
            deployment = await self._deployment(name)
            requests = [await self._request(order, deployment) for order in group]
            for chunk in _chunks(requests):
                results.extend(await self._create(deployment, chunk))
        return results

    async def _deployment(self, name: str) -> DeploymentRef:
        if name not in self._deployments:
            self._deployments[name] = await self._api.read_deployment(name)
        return self._deployments[name]

    async def _request(self, order: Order, deployment: DeploymentRef) -> _Request:
        parameters, labels = _sealed(order.parameters), dict(order.labels)
        size = len(json.dumps(parameters))
        if size > self._inline_bytes:
            labels[DATAREF] = await store_parameters(order.parameters, self._storage)
            parameters, size = {}, 0
        body: dict[str, Any] = {
            "name": order.name,
            "parameters": parameters,
            # The payload's model has validated it; a form's schema would see it sealed.
            "enforce_parameter_schema": False,
            "idempotency_key": order.key,
            "labels": labels,
            "tags": list(order.tags),
        }
        if deployment.work_pool is not None:
            body["work_queue_name"] = work_queue(order.band)
        if order.not_before is not None:
            details = {"scheduled_time": order.not_before.isoformat()}
            body["state"] = {"type": "SCHEDULED", "name": "Scheduled", "state_details": details}
        return _Request(order, body, size)

    async def _create(
        self, deployment: DeploymentRef, requests: Sequence[_Request]
    ) -> Sequence[HandedOver | Rejected]:
        found: Mapping[str, str] = {}
        if not self._bulk_is_missing and len(requests) > 1:
            proven = await self._create_in_bulk(deployment, requests)
            if proven is not None:
                return proven
            found = await self._find(deployment, requests)
        results: list[HandedOver | Rejected] = []
        for request in requests:
            run_id = found.get(request.order.key)
            if run_id is not None:
                results.append(HandedOver(request.order, run_id))
            else:
                results.append(await self._create_singly(deployment, request))
        return results

    async def _create_in_bulk(
        self, deployment: DeploymentRef, requests: Sequence[_Request]
    ) -> Sequence[HandedOver] | None:
        """Create all in one call, or return None where the answer proves nothing."""
        try:
            items = await self._api.create_runs(deployment.id, [one.body for one in requests])
        except PrefectApiError as error:
            if error.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
                await self._learn_of_404(deployment)
            return None
        created = [
            HandedOver(request.order, item.run_id)
            for request, item in zip(requests, items, strict=False)
            if item.run_id is not None and item.error is None
        ]
        return created if len(created) == len(requests) == len(items) else None

    async def _learn_of_404(self, deployment: DeploymentRef) -> None:
        """Tell a server without the bulk endpoint from a deployment that is gone."""
        del self._deployments[deployment.name]
        again = await self._deployment(deployment.name)
        self._bulk_is_missing = again.id == deployment.id

    async def _find(
        self, deployment: DeploymentRef, requests: Sequence[_Request]
    ) -> Mapping[str, str]:
        return await self._api.find_runs(deployment.flow_id, [one.order.key for one in requests])

    async def _create_singly(
        self, deployment: DeploymentRef, request: _Request
    ) -> HandedOver | Rejected:
        try:
            run_id = await self._api.create_run(deployment.id, request.body)
        except PrefectApiUnavailableError:
            raise
        except PrefectApiError as error:
            return await self._judge(deployment, request, error)
        return HandedOver(request.order, run_id)

    async def _judge(
        self, deployment: DeploymentRef, request: _Request, error: PrefectApiError
    ) -> HandedOver | Rejected:
        """Decide after a refusal whether the order is at fault, or Prefect.

        A server whose database is away answers 500 to everything. Only where it answers the
        read-back meanwhile is the order itself to blame.
        """
        if error.status == HTTPStatus.NOT_FOUND:
            self._deployments.pop(deployment.name, None)
            raise NotFoundError(f"the deployment {deployment.name!r} is gone") from error
        if error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise PrefectApiUnavailableError(str(error), status=error.status) from error
        try:
            found = await self._find(deployment, [request])
        except PrefectApiError as unwell:
            raise PrefectApiUnavailableError(str(error), status=error.status) from unwell
        if request.order.key in found:
            return HandedOver(request.order, found[request.order.key])
        server_error = (error.status or 500) >= HTTPStatus.INTERNAL_SERVER_ERROR
        return Rejected(request.order, error, permanent=not server_error)


def _sealed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Wrap each parameter so that Prefect's server hands it on and evaluates nothing in it.

    The server hydrates parameters: it renders templates and reads variables named by nested
    `__prefect_kind` objects. What a `json` object yields is not hydrated again.
    """
    return {
        name: {"__prefect_kind": "json", "value": json.dumps(value, ensure_ascii=False)}
        for name, value in parameters.items()
    }


def _chunks(requests: Sequence[_Request]) -> Sequence[Sequence[_Request]]:
    """Cut into bulk calls, bounded in number and in bytes."""
    chunks: list[list[_Request]] = []
    size = 0
    for request in requests:
        if not chunks or len(chunks[-1]) == BULK_LIMIT or size + request.size > _MAX_BULK_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(request)
        size += request.size
    return chunks
