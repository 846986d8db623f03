"""A Prefect API that spoils single bulk calls, and counts only what really did harm."""

import json
from collections import Counter, deque
from enum import StrEnum
from http import HTTPStatus
from random import Random
from typing import Any

import aiohttp
from aiohttp import web

from tests.servers.proxies import BULK_CREATE, ApiProxy

_BULK = BULK_CREATE.rpartition("/")[2]


class BulkFault(StrEnum):
    """What can happen to a bulk call."""

    #: The server commits, and its answer is lost.
    ANSWER_DROPPED = "dropped answers"
    #: One item holds a NUL character, on which PostgreSQL fails.
    POISONED = "failed bulks"


class FaultyApi(ApiProxy):
    """Each fault that is armed meets one bulk call; one that had no effect is armed again.

    Args:
        upstream: The API's URL.
        numbers: Draws which item is poisoned, and where.
    """

    def __init__(self, upstream: str, numbers: Random) -> None:
        super().__init__(upstream)
        #: How often each fault met a consumer: the server had committed everything, or had failed.
        self.done: Counter[BulkFault] = Counter()
        self._armed: deque[BulkFault] = deque()
        self._numbers = numbers

    @property
    def armed(self) -> int:
        """How many faults still wait for a bulk call."""
        return len(self._armed)

    def arm(self, fault: BulkFault) -> None:
        """Let the next bulk call that has none yet meet this fault."""
        self._armed.append(fault)

    async def _forward(
        self, request: web.Request, body: bytes, *, drop: bool, late: float
    ) -> web.StreamResponse:
        if not self._armed or not request.path.endswith(f"/{_BULK}"):
            return await super()._forward(request, body, drop=drop, late=late)
        fault = self._armed.popleft()
        poisoned = fault is BulkFault.POISONED
        answer = await self._ask(request, self._with_nul(body) if poisoned else body)
        alone = request.transport is None or request.transport.is_closing()
        if answer is None or alone or _all_created(answer) is poisoned:
            self._armed.append(fault)
        else:
            self.done[fault] += 1
        if answer is None or not poisoned:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # which reaches nobody
        return answer

    async def _ask(self, request: web.Request, body: bytes) -> web.Response | None:
        """The server's answer, uncompressed; None while it is down."""
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if api_version := request.headers.get("x-prefect-api-version"):
            headers["x-prefect-api-version"] = api_version
        try:
            async with self._client.post(
                self._target(request), headers=headers, data=body
            ) as answer:
                return web.Response(
                    status=answer.status,
                    body=await answer.read(),
                    content_type="application/json",
                )
        except aiohttp.ClientError:
            return None

    def _with_nul(self, body: bytes) -> bytes:
        runs: list[dict[str, Any]] = json.loads(body)
        run = self._numbers.choice(runs)
        if self._numbers.random() < 0.5:
            run["name"] += "\0"
        else:
            run["parameters"]["echo"] = "\0"
        return json.dumps(runs).encode()


def _all_created(answer: web.Response) -> bool:
    if answer.status != HTTPStatus.OK or not isinstance(answer.body, bytes):
        return False
    return all(item["status"] == "CREATED" for item in json.loads(answer.body)["results"])
