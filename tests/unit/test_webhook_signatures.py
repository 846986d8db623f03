"""Signatures: what is sent can be verified, and nothing else can."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noa_flows.webhooks import SignatureError, verify
from noa_flows.webhooks.signatures import (
    Algorithm,
    plain_signature,
    secret_bytes,
    standard_headers,
)
from noa_flows.webhooks.signer import webhook_id

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"o" * 24).decode()

secrets = st.binary(min_size=24, max_size=64).map(
    lambda key: "whsec_" + base64.b64encode(key).decode()
)


def test_the_signature_is_that_of_the_published_example() -> None:
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = standard_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}', [SECRET]
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(), st.lists(secrets, min_size=1, max_size=3), st.integers(0, 2))
def test_any_body_verifies_with_any_of_the_secrets_that_signed(
    body: bytes, signing: list[str], index: int
) -> None:
    headers = standard_headers("msg-1", NOW, body, signing)
    verify(headers, body, [signing[index % len(signing)]], now=NOW)


@given(st.binary(), st.binary(), secrets)
def test_another_body_does_not_verify(body: bytes, other: bytes, secret: str) -> None:
    headers = standard_headers("msg-1", NOW, body, [secret])
    if other != body:
        with pytest.raises(SignatureError):
            verify(headers, other, [secret], now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg-2"},
        {"webhook-timestamp": "1748779201"},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,é"},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "-5"},
        {"webhook-timestamp": "9" * 5000},
    ],
)
def test_a_changed_header_does_not_verify(change: Mapping[str, str]) -> None:
    headers = {**standard_headers("msg-1", NOW, b"{}", [SECRET]), **change}
    with pytest.raises(SignatureError):
        verify(headers, b"{}", [SECRET], now=NOW)


@pytest.mark.parametrize("off", [timedelta(minutes=-5), timedelta(0), timedelta(minutes=5)])
def test_five_minutes_of_difference_are_tolerated(off: timedelta) -> None:
    verify(standard_headers("msg-1", NOW, b"{}", [SECRET]), b"{}", [SECRET], now=NOW + off)


@pytest.mark.parametrize("off", [timedelta(seconds=-301), timedelta(seconds=301)])
def test_more_than_five_minutes_are_not_tolerated(off: timedelta) -> None:
    headers = standard_headers("msg-1", NOW, b"{}", [SECRET])
    with pytest.raises(SignatureError, match="clock"):
        verify(headers, b"{}", [SECRET], now=NOW + off)


def test_a_receiver_with_only_the_old_or_only_the_new_secret_is_content() -> None:
    headers = standard_headers("msg-1", NOW, b"{}", [SECRET, OTHER])
    verify(headers, b"{}", [SECRET], now=NOW)
    verify(headers, b"{}", [OTHER], now=NOW)


def test_without_secrets_there_is_an_id_and_a_time_but_no_signature() -> None:
    headers = standard_headers("msg-1", NOW, b"{}", [])
    assert headers == {"webhook-id": "msg-1", "webhook-timestamp": "1748779200"}


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_a_plain_signature_verifies(algorithm: Algorithm) -> None:
    value = plain_signature(b"{}", "key", algorithm)
    assert value.startswith(f"{algorithm}=")
    verify({"X-Signature": value}, b"{}", ["old", "key"])
    with pytest.raises(SignatureError):
        verify({"X-Signature": value}, b"{ }", ["key"])


def test_an_unsigned_webhook_does_not_verify() -> None:
    with pytest.raises(SignatureError, match="no signature"):
        verify({}, b"{}", [SECRET, "key"])


def test_a_standard_secret_is_never_taken_for_a_plain_key() -> None:
    headers = {"X-Signature": plain_signature(b"{}", SECRET, "sha256")}
    with pytest.raises(SignatureError):
        verify(headers, b"{}", [SECRET])


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_!!!",
        SECRET.removeprefix("whsec_"),
        "whsec_" + base64.b64encode(b"s" * 23).decode(),
        "whsec_" + base64.b64encode(b"s" * 65).decode(),
    ],
)
def test_a_malformed_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ValueError, match="24 to 64 bytes") as caught:
        secret_bytes(secret)
    assert not secret or secret == "whsec_" or secret not in str(caught.value)


@given(st.text(min_size=1))
def test_every_delivery_id_becomes_a_header_that_no_other_reading_fits(delivery_id: str) -> None:
    made = webhook_id(delivery_id)
    assert made.isascii()
    assert made.isprintable()
    assert not set(made) & set(". ")
    assert made == webhook_id(delivery_id)


def test_an_ordinary_delivery_id_is_kept() -> None:
    assert webhook_id("order-17") == "order-17"
