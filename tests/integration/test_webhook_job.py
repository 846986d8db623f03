"""The webhook job against a real receiver."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from noa_flows.errors import PermanentJobError, TemporaryJobError
from noa_flows.job_run import JobRun
from noa_flows.jobs.webhook_job import WebhookPayload, WebhookReceipt, deliver_webhook
from noa_flows.settings import Settings
from noa_flows.webhooks import verify
from tests.integration.webhook_receiver import (
    Answer,
    Flood,
    Receiver,
    cut_at_once,
    cut_in_the_body,
    hang,
    respond,
    trickle,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEXT_SECRET = "whsec_bmV4dG5leHRuZXh0bmV4dG5leHRuZXh0"
SECRETS = {"standard": SECRET, "standard-next": NEXT_SECRET, "own": "s3cret", "short": "whsec_AAAA"}
NUMBER_SCHEMA = {
    "$defs": {"id": {"type": "integer"}},
    "type": "object",
    "properties": {"id": {"$ref": "#/$defs/id"}},
    "required": ["id"],
}


async def read_secret(name: str) -> str:
    return SECRETS[name]


def a_run(webhook: Mapping[str, Any] | None = None, **retry: Any) -> JobRun:
    group = {"allowed_hosts": ["127.0.0.0/8"], **(webhook or {})}
    quick = {"initial_backoff": 1, "max_backoff_time": 5, **retry}
    return JobRun.for_test("order-17", Settings.model_validate({"webhook": group, "retry": quick}))


async def deliver(run: JobRun, url: str, **payload: Any) -> WebhookReceipt:
    return await deliver_webhook(
        WebhookPayload.model_validate({"url": url, "method": "POST", **payload}),
        run,
        read_secret=read_secret,
    )


def shown(run: JobRun) -> Sequence[Mapping[str, Any]]:
    """Find the rows of the artifact with the attempts."""
    return next(told[2] for told in run.told if told[0] == "table")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_a_webhook_arrives_with_its_method_headers_and_body(method: str) -> None:
    async with Receiver([respond(204)]) as receiver:
        receipt = await deliver(
            a_run(),
            f"{receiver.url}/orders?source=noa",
            method=method,
            headers={"X-Tenant": "acme"},
            body={"name": "Zoë", "items": [1, None]},
        )
    request = receiver.received[0]
    assert request.line == f"{method} /orders?source=noa HTTP/1.1"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["x-tenant"] == "acme"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == "order-17"
    assert request.body == '{"name":"Zoë","items":[1,null]}'.encode()
    assert (receipt.status, receipt.delivery_id, receipt.validated) == (204, "order-17", False)
    assert receipt.url == f"http://127.0.0.1:{receiver.port}/orders?…"


async def test_text_of_another_content_type_is_sent_as_it_is() -> None:
    async with Receiver([respond(200)]) as receiver:
        headers = {"Content-Type": "text/csv"}
        await deliver(a_run(), receiver.url, headers=headers, body="a;b\r\n1;2")
    assert receiver.received[0].body == b"a;b\r\n1;2"


async def test_without_a_body_nothing_is_sent() -> None:
    async with Receiver([respond(200)]) as receiver:
        await deliver(a_run(), receiver.url)
    assert receiver.received[0].body == b""
    assert "content-type" not in receiver.received[0].headers


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_a_temporary_failure_is_repeated_until_it_succeeds(status: int) -> None:
    run = a_run()
    async with Receiver([respond(status), respond(200, b"thanks")]) as receiver:
        receipt = await deliver(run, receiver.url, body=1)
    assert [attempt.status for attempt in receipt.attempts] == [status, 200]
    assert receipt.response_excerpt == "thanks"
    assert [row["attempt"] for row in shown(run)] == [1, 2]
    assert str(shown(run)[0]["result"]).startswith(str(status))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 501, 599])
async def test_any_other_failure_is_final(status: int) -> None:
    async with Receiver([respond(status)]) as receiver:
        with pytest.raises(PermanentJobError, match=rf"after 1 attempt .* {status}"):
            await deliver(a_run(), receiver.url)
    assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_is_not_followed(status: int) -> None:
    async with Receiver([respond(200)]) as target:
        answer = respond(status, headers={"Location": target.url})
        async with Receiver([answer]) as receiver:
            with pytest.raises(PermanentJobError, match="redirects are not followed"):
                await deliver(a_run(), receiver.url)
    assert target.received == []
    assert len(receiver.received) == 1


async def test_the_retries_end_with_a_temporary_error_that_tells_the_last_reason() -> None:
    run = a_run()
    async with Receiver([respond(503)]) as receiver:
        with pytest.raises(TemporaryJobError, match=r"after 4 attempts .*503 Service Unavailable"):
            await deliver(run, receiver.url, retries=3)
    assert len(receiver.received) == 4
    assert [row["attempt"] for row in shown(run)] == [1, 2, 3, 4]
    assert shown(run)[3]["pause after (ms)"] is None


async def test_without_retries_in_the_payload_the_settings_count() -> None:
    async with Receiver([respond(503)]) as receiver:
        with pytest.raises(TemporaryJobError):
            await deliver(a_run(max_attempts=2), receiver.url)
    assert len(receiver.received) == 2


async def test_a_retry_keeps_its_id_and_is_signed_anew() -> None:
    webhook = {"standard_secrets": {"127.0.0.1": ["standard", "standard-next"]}}
    answers = [respond(500, headers={"Retry-After": "1"}), respond(200)]
    async with Receiver(answers) as receiver:
        await deliver(a_run(webhook), receiver.url, body={"id": 17})
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == "order-17"
    assert int(first.headers["webhook-timestamp"]) < int(second.headers["webhook-timestamp"])
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
    for request in (first, second):
        verify(request.headers, request.body, [SECRET])
        verify(request.headers, request.body, [NEXT_SECRET])


async def test_a_receiver_without_secrets_is_not_signed_for() -> None:
    webhook = {"standard_secrets": {"hooks.example": ["standard"]}}
    async with Receiver([respond(200)]) as receiver:
        await deliver(a_run(webhook), receiver.url)
    assert "webhook-signature" not in receiver.received[0].headers


async def test_a_signature_in_the_payload_signs_the_raw_body() -> None:
    webhook = {"signing_keys": {"own": ["127.0.0.1"]}}
    signature = {"key": "own", "algorithm": "sha512"}
    async with Receiver([respond(200)]) as receiver:
        await deliver(a_run(webhook), receiver.url, body={"a": 1}, signature=signature)
    request = receiver.received[0]
    assert request.headers["x-signature"].startswith("sha512=")
    verify(request.headers, request.body, ["s3cret"])


@pytest.mark.parametrize(
    "signing_keys", [{}, {"another": ["*"]}, {"own": []}, {"own": ["hooks.example"]}]
)
async def test_a_key_that_may_not_sign_for_the_receiver_is_refused(
    signing_keys: Mapping[str, Any],
) -> None:
    async with Receiver([respond(200)]) as receiver:
        with pytest.raises(PermanentJobError, match=r"signature\.key") as caught:
            await deliver(
                a_run({"signing_keys": signing_keys}), receiver.url, signature={"key": "own"}
            )
    assert "'own'" not in str(caught.value)
    assert receiver.received == []


async def test_a_malformed_standard_secret_is_named_and_not_shown() -> None:
    with pytest.raises(PermanentJobError, match="'short'") as caught:
        await deliver(a_run({"standard_secrets": {"*": ["short"]}}), "http://127.0.0.1:1")
    assert "AAAA" not in str(caught.value)


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_honoured_in_both_forms(form: str) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    header = {"Retry-After": "1" if form == "seconds" else later}
    async with Receiver([respond(429, headers=header), respond(200)]) as receiver:
        receipt = await deliver(a_run(), receiver.url)
    pause = receipt.attempts[0].pause_ms
    assert pause is not None
    assert 900 < pause <= 3000
    assert receipt.duration_ms >= pause


async def test_a_receiver_cannot_ask_for_more_patience_than_the_operator_has() -> None:
    answers = [respond(503, headers={"Retry-After": "86400"}), respond(200)]
    async with Receiver(answers) as receiver:
        receipt = await deliver(a_run({"max_retry_after_seconds": 0.05}), receiver.url)
    assert receipt.attempts[0].pause_ms == 50


@pytest.mark.parametrize("answer", [hang, trickle], ids=["silent", "a byte at a time"])
async def test_a_receiver_that_takes_too_long_is_left(answer: Answer) -> None:
    async with Receiver([answer]) as receiver:
        with pytest.raises(TemporaryJobError, match=r"no complete answer within 0\.2 s"):
            await deliver(a_run(), receiver.url, timeout=200, retries=1)
    assert len(receiver.received) == 2


@pytest.mark.parametrize("answer", [cut_in_the_body, cut_at_once])
async def test_a_connection_that_breaks_is_a_temporary_failure(answer: Answer) -> None:
    async with Receiver([answer, respond(200)]) as receiver:
        receipt = await deliver(a_run(), receiver.url)
    assert receipt.attempts[0].status is None
    assert receipt.attempts[0].error


async def test_a_receiver_that_is_not_there_is_a_temporary_failure() -> None:
    with pytest.raises(TemporaryJobError, match="ConnectError"):
        await deliver(a_run(), "http://127.0.0.1:1", retries=0)


async def test_of_a_gigabyte_only_the_excerpt_is_read() -> None:
    flood = Flood()
    async with Receiver([flood]) as receiver:
        receipt = await deliver(a_run(), receiver.url)
    assert receipt.response_excerpt == "x" * 1000
    assert flood.sent < 32 * 1024 * 1024


async def test_an_answer_that_is_too_large_to_be_validated_is_a_failure() -> None:
    flood = Flood()
    async with Receiver([flood]) as receiver:
        with pytest.raises(PermanentJobError, match="larger than 1048576 bytes"):
            await deliver(a_run(), receiver.url, expected_response={"json_schema": NUMBER_SCHEMA})
    assert flood.sent < 32 * 1024 * 1024


async def test_an_answer_that_fits_its_schema_is_validated() -> None:
    expected = {"status": [200, 202], "json_schema": NUMBER_SCHEMA, "max_bytes": 100}
    async with Receiver([respond(202, b'{"id": 5}')]) as receiver:
        receipt = await deliver(a_run(), receiver.url, expected_response=expected)
    assert receipt.validated


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"id": "five"}', r"at \$\.id: does not fit 'type': 'integer'"),
        (b"{}", r"at \$: does not fit 'required'"),
        (b"<html>", "not JSON"),
        (b"\xff", "not JSON in UTF-8"),
        (b'{"id": 5, "filler": "' + b"x" * 100 + b'"}', "larger than 100 bytes"),
    ],
)
async def test_an_answer_that_does_not_fit_its_schema_is_final(body: bytes, reason: str) -> None:
    expected = {"json_schema": NUMBER_SCHEMA, "max_bytes": 100}
    async with Receiver([respond(200, body)]) as receiver:
        with pytest.raises(PermanentJobError, match=reason):
            await deliver(a_run(), receiver.url, expected_response=expected)
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    ("expected", "status"), [([404], 404), (["4xx"], 418), (["2xx", 302], 302), ([201], 201)]
)
async def test_an_expected_status_is_a_success(expected: list[Any], status: int) -> None:
    async with Receiver([respond(status)]) as receiver:
        receipt = await deliver(a_run(), receiver.url, expected_response={"status": expected})
    assert receipt.status == status


async def test_a_success_that_was_not_expected_is_final() -> None:
    async with Receiver([respond(200)]) as receiver:
        with pytest.raises(PermanentJobError, match=r"200 OK, but expected was 201, 4xx"):
            await deliver(a_run(), receiver.url, expected_response={"status": [201, "4xx"]})


async def test_a_wrong_schema_is_found_before_anything_is_sent() -> None:
    expected = {"json_schema": {"type": "nothing"}}
    async with Receiver([respond(200)]) as receiver:
        with pytest.raises(PermanentJobError, match=r"expected_response\.json_schema: .*\$\.type"):
            await deliver(a_run(), receiver.url, expected_response=expected)
    assert receiver.received == []


async def test_a_host_that_is_not_allowed_gets_nothing() -> None:
    run = a_run({"allowed_hosts": []})
    async with Receiver([respond(200)]) as receiver:
        with pytest.raises(PermanentJobError, match=r"a loopback address.*webhook\.allowed_hosts"):
            await deliver(run, receiver.url)
    assert receiver.received == []
    assert len(shown(run)) == 1


async def test_a_name_is_resolved_once_and_connected_as_it_was_judged() -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    async def rebind(_host: str, _port: int) -> Sequence[str]:
        return answers.pop(0)

    async with Receiver([respond(200)]) as receiver:
        url = f"http://rebind.example:{receiver.port}/"
        payload = WebhookPayload(url=url, method="POST")
        receipt = await deliver_webhook(payload, a_run(), resolve=rebind)
    assert receipt.status == 200
    assert receiver.received[0].headers["host"] == f"rebind.example:{receiver.port}"
    assert answers == [["10.0.0.1"]]


async def test_each_attempt_is_judged_anew() -> None:
    answers = [["127.0.0.1"], ["10.0.0.1"]]

    async def rebind(_host: str, _port: int) -> Sequence[str]:
        return answers.pop(0)

    async with Receiver([respond(503)]) as receiver:
        url = f"http://rebind.example:{receiver.port}/"
        payload = WebhookPayload(url=url, method="POST")
        with pytest.raises(PermanentJobError, match=r"10\.0\.0\.1, a private address"):
            await deliver_webhook(payload, a_run(), resolve=rebind)
    assert len(receiver.received) == 1


async def test_credentials_are_seen_neither_in_the_result_nor_in_what_the_run_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", logger="noa_flows")
    caplog.set_level("INFO", logger="httpx")
    run = a_run()
    headers = {"Authorization": "Bearer tok-12345678", "X-Api-Key": "key-12345678"}
    echo = b"you sent Bearer tok-12345678 (tok-12345678), key-12345678 and query-1234"
    async with Receiver([respond(500, echo), respond(200, echo)]) as receiver:
        receipt = await deliver(run, f"{receiver.url}/?token=query-1234", headers=headers)
    seen = f"{receipt.model_dump_json()} {run.told} {caplog.text}"
    assert receiver.received[0].headers["authorization"] == "Bearer tok-12345678"
    for secret in ("tok-12345678", "key-12345678", "query-1234"):
        assert secret not in seen
    assert receipt.response_excerpt == "you sent … (…), … and …"


async def test_the_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver([respond(200)]) as proxy, Receiver([respond(200)]) as receiver:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        await deliver(a_run(), receiver.url)
    assert proxy.received == []
