"""The webhook job as a Prefect flow, with its keys in Secret blocks."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, cast
from uuid import uuid4

import pytest
from prefect.artifacts import Artifact
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL, temporary_settings

from noa_flows.errors import PermanentJobError, TemporaryJobError
from noa_flows.jobs.webhook_job import WebhookReceipt, webhook
from noa_flows.settings import get_settings
from noa_flows.webhooks import verify
from noa_flows.webhooks.secret_reader import read_prefect_secret
from tests.integration.webhook_receiver import Receiver, respond

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("prefect_api")]


Start = Callable[..., Awaitable[WebhookReceipt]]


async def a_secret(value: Any) -> str:
    name = f"key-{uuid4()}"
    await Secret(value=value).asave(name)
    return name


# Prefect leaves the connection open over which it asked for its result storage.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)
async def test_a_flow_run_signs_with_a_secret_block_and_shows_its_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = await a_secret("s3cret")
    monkeypatch.setenv("NOA_WEBHOOK__ALLOWED_HOSTS", "127.0.0.1")
    monkeypatch.setenv("NOA_WEBHOOK__SIGNING_KEYS", json.dumps({key: ["127.0.0.1"]}))
    monkeypatch.setenv("NOA_RETRY__INITIAL_BACKOFF", "1")
    get_settings.cache_clear()
    async with Receiver([respond(500), respond(200, b"thanks")]) as receiver:
        receipt = await cast("Start", webhook)(
            url=f"{receiver.url}/x",
            method="POST",
            body={"$ref": "stays data"},
            signature={"key": key},
        )
    assert [attempt.status for attempt in receipt.attempts] == [500, 200]
    request = receiver.received[1]
    table = await Artifact.aget("webhook-attempts")
    assert table is not None
    assert [row["attempt"] for row in json.loads(str(table.data))] == [1, 2]
    assert json.loads(request.body) == {"$ref": "stays data"}
    assert request.headers["webhook-id"] == receipt.delivery_id
    verify(request.headers, request.body, ["s3cret"])


async def test_a_block_that_is_not_there_is_named() -> None:
    with pytest.raises(PermanentJobError, match="no Secret block 'nowhere'"):
        await read_prefect_secret("nowhere")


async def test_a_block_that_holds_no_text_is_named_and_not_shown() -> None:
    name = await a_secret({"password": "hunter2"})
    with pytest.raises(PermanentJobError, match=f"'{name}' must hold text") as caught:
        await read_prefect_secret(name)
    assert "hunter2" not in str(caught.value)


async def test_a_prefect_server_that_fails_is_a_temporary_failure() -> None:
    async with Receiver([respond(500)]) as failing:
        with (
            temporary_settings({PREFECT_API_URL: f"{failing.url}/api"}),
            pytest.raises(TemporaryJobError, match="Secret block 'any'"),
        ):
            await read_prefect_secret("any")
