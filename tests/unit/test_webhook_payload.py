"""What a message may ask of the webhook job, and how its errors read."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from noa_flows.errors import PayloadError
from noa_flows.jobs.webhook_job import WebhookPayload, webhook
from noa_flows.webhooks.content import encode_content
from noa_flows.webhooks.redaction import redacted_url, secret_values, without
from noa_flows.webhooks.request_rules import check_headers

Data = dict[str, Any]


def parse(**changes: Any) -> WebhookPayload:
    return webhook.job.parse({"url": "https://hooks.example/x", "method": "POST", **changes})


def nested(levels: int) -> Data:
    schema: Data = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


def test_url_and_method_are_enough() -> None:
    payload = parse()
    assert payload.timeout == 15_000
    assert payload.retries is None
    assert payload.expected_response.status == ("2xx",)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/x?y=z#part",
        "https://[2606:4700::1111]:65535/",
        "https://bücher.example/ä",
        "HTTPS://HOOKS.EXAMPLE.",
        "http://host_name:1",
    ],
)
def test_a_plain_url_is_taken_with_any_port(url: str) -> None:
    assert parse(url=url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example",
        "//hooks.example/",
        "ftp://hooks.example/",
        "file:///etc/passwd",
        "gopher://hooks.example/",
        "http:///path",
        "http://",
        "http://hooks.example:0/",
        "http://hooks.example:65536/",
        "http://hooks.example:-1/",
        "http://a b/",
        "http://hooks.example%2f@evil.example/",
        "http://hooks\\.example/",
        "http://hooks.example/\r\nX-Evil: 1",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://[::1/",
        "http://[fe80::1%25eth0",
        "http://h/" + "x" * 2048,
    ],
)
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(PayloadError) as caught:
        parse(url=url)
    assert caught.value.path == "url"


@pytest.mark.parametrize(
    "url",
    ["https://joe:hunter2@hooks.example/", "https://hunter2@hooks.example/"],
)
def test_a_password_in_the_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(PayloadError, match="use a header") as caught:
        parse(url=url)
    assert "hunter2" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"content-length": "0"},
        {"Transfer-Encoding": "chunked"},
        {"Connection": "keep-alive"},
        {"Webhook-Id": "mine"},
        {"webhook-signature": "v1,mine"},
        {"Accept-Encoding": "gzip"},
        {"": "x"},
        {"X Y": "x"},
        {"X:Y": "x"},
        {"X-Ä": "x"},
        {"X\r\nY": "x"},
        {"X": "a\r\nY: b"},
        {"X": "a\nb"},
        {"X": "a\0b"},
        {"X": "ä"},
        {"X": " a"},
        {"X": "a\t"},
        {"X": "a" * 8193},
        {"X-A": "1", "x-a": "2"},
        {f"X-{n}": "" for n in range(65)},
    ],
)
def test_a_header_that_could_do_harm_is_refused(headers: Mapping[str, str]) -> None:
    with pytest.raises(PayloadError) as caught:
        parse(headers=headers)
    assert caught.value.path == "headers"


def test_the_value_of_a_wrong_header_is_not_shown() -> None:
    with pytest.raises(PayloadError, match="Authorization") as caught:
        parse(headers={"Authorization": "Bearer tok-1234\n"})
    assert "tok-1234" not in f"{caught.value} {caught.value.__cause__}"


@given(st.dictionaries(st.text(), st.text(), max_size=3))
def test_headers_that_are_taken_can_be_sent(headers: dict[str, str]) -> None:
    try:
        check_headers(headers)
    except ValueError:
        return
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    assert lines.isascii()
    assert len(lines.splitlines()) == len(headers)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"method": "GET"}, "method"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": 30_001}, "timeout"),
        ({"retries": -1}, "retries"),
        ({"retries": 21}, "retries"),
        ({"headers": {"X": 1}}, "headers.X"),
        ({"signature": {"key": "own", "algorithm": "md5"}}, "signature.algorithm"),
        ({"signature": {}}, "signature.key"),
        ({"expected_response": {"status": []}}, "expected_response.status"),
        ({"expected_response": {"max_bytes": 0}}, "expected_response.max_bytes"),
    ],
)
def test_an_option_out_of_bounds_is_refused_with_its_path(changes: Data, path: str) -> None:
    with pytest.raises(PayloadError) as caught:
        parse(**changes)
    assert caught.value.path == path


@pytest.mark.parametrize("status", [99, 600, "2x", "6xx", "200", True])
def test_a_status_that_does_not_exist_is_refused(status: object) -> None:
    with pytest.raises(PayloadError) as caught:
        parse(expected_response={"status": [status]})
    assert caught.value.path.startswith("expected_response.status[0]")


@pytest.mark.parametrize(
    "key", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "S3cret!", "", "a" * 101, "with space"]
)
def test_a_literal_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(PayloadError, match=r"Secret block") as caught:
        parse(signature={"key": key})
    assert caught.value.path == "signature.key"
    assert not key or key not in f"{caught.value} {caught.value.__cause__}"


def test_a_signature_that_is_there_twice_is_refused() -> None:
    with pytest.raises(PayloadError, match="twice"):
        parse(headers={"x-signature": "sha256=00"}, signature={"key": "own"})


@pytest.mark.parametrize(
    ("body", "content_type", "sent", "sent_type"),
    [
        (None, None, b"", None),
        (None, "text/plain", b"", "text/plain"),
        ({"a": [1, "ä"]}, None, '{"a":[1,"ä"]}'.encode(), "application/json"),
        ("text", None, b'"text"', "application/json"),
        ("text", "application/json", b'"text"', "application/json"),
        ("text", "application/vnd.x+json; v=1", b'"text"', "application/vnd.x+json; v=1"),
        ("<a>ä</a>", "application/xml", "<a>ä</a>".encode(), "application/xml"),
        ("a=1&b=2", "application/x-www-form-urlencoded", b"a=1&b=2", None),
        (False, None, b"false", "application/json"),
        (0, None, b"0", "application/json"),
        ({"$ref": "#/a"}, None, b'{"$ref":"#/a"}', "application/json"),
    ],
)
def test_a_body_is_encoded_as_its_content_type_says(
    body: Any, content_type: str | None, sent: bytes, sent_type: str | None
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    content = encode_content(body, headers)
    assert content.body == sent
    assert content.type == (sent_type or content_type)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ({"a": 1}, "application/x-www-form-urlencoded"),
        (1, "text/plain"),
        ("ä", "text/plain; charset=iso-8859-1"),
        ("\ud800", None),
        (float("nan"), None),
    ],
)
def test_a_body_that_cannot_be_sent_is_refused_at_the_start(
    body: object, content_type: str | None
) -> None:
    with pytest.raises(PayloadError):
        parse(body=body, headers={"Content-Type": content_type} if content_type else {})


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"$ref": "http://127.0.0.1/schema"}, "outside the schema"),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, "outside the schema"),
        ({"$ref": "file:///etc/passwd"}, "outside the schema"),
        ({"$ref": "other.json"}, "outside the schema"),
        ({"items": {"$dynamicRef": "http://x/"}}, "#/items/\\$dynamicRef: .* outside"),
        ({"$ref": "#/$defs/missing"}, "does not have"),
        ({"$ref": "#missing"}, "not there"),
        ({"$schema": "http://evil.example/schema"}, "known drafts"),
        ({"$defs": {"a": {"$id": "http://evil.example/"}}}, "only the schema as a whole"),
        ({"enum": ["x" * 70_000]}, "larger than"),
        (nested(60), "deeper than"),
    ],
)
def test_a_schema_that_reaches_out_or_is_too_large_is_refused(schema: Data, reason: str) -> None:
    with pytest.raises(PayloadError, match=reason) as caught:
        parse(expected_response={"json_schema": schema})
    assert caught.value.path == "expected_response.json_schema"


OWN_SCHEMAS: list[Data] = [
    {},
    {"$ref": "#"},
    {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {}}},
    {"$ref": "#/$defs/a%20b", "$defs": {"a b": {}}},
    {"$ref": "#here", "$defs": {"a": {"$anchor": "here"}}},
    {"$ref": "#/items/0", "$schema": "http://json-schema.org/draft-07/schema#", "items": [{}]},
    {"$id": "https://example.com/mine", "properties": {"$ref": {"type": "string"}}},
]


@pytest.mark.parametrize("schema", OWN_SCHEMAS)
def test_a_schema_that_refers_to_its_own_parts_is_taken(schema: Data) -> None:
    assert parse(expected_response={"json_schema": schema}).expected_response.json_schema == schema


def test_pydantic_never_quotes_a_payload() -> None:
    with pytest.raises(ValidationError) as caught:
        WebhookPayload.model_validate({"url": "https://x/?t=tok-1234", "method": "tok-1234"})
    assert "tok-1234" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example/orders/17", "https://hooks.example/orders/17"),
        ("https://hooks.example:8443/a?token=s#frag", "https://hooks.example:8443/a?…"),
        ("https://chat.example/T0/abcdefghij0123456789", "https://chat.example/T0/…"),
        ("http://[::1]:80/", "http://[::1]/"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert redacted_url(url) == shown


def test_the_parts_of_a_credential_are_hidden_too() -> None:
    headers = {"Authorization": "Bearer abcdefgh", "X-Tenant": "acme-corporation"}
    secrets = secret_values("https://hooks.example/?t=query-1234", headers)
    assert (
        without("abcdefgh, query-1234 of acme-corporation", secrets) == "…, … of acme-corporation"
    )
