"""The operator's settings are checked when they are read, not when a message comes."""

from typing import Any

import pytest
from pydantic import ValidationError

from noa_flows.webhooks.settings import WebhookSettings


def test_without_settings_nothing_is_allowed_and_nothing_is_signed() -> None:
    settings = WebhookSettings()
    assert settings.allowed() == ()
    assert not settings.may_sign("any", "hooks.example")
    assert list(settings.standard_secrets_for("hooks.example")) == []


def test_a_key_signs_for_its_receivers_alone_unless_it_is_for_any() -> None:
    settings = WebhookSettings(signing_keys={"one": ("Hooks.Example",), "all": ("*",)})
    assert settings.may_sign("one", "hooks.example")
    assert not settings.may_sign("one", "evil.example")
    assert settings.may_sign("all", "evil.example")


def test_secrets_of_a_receiver_take_the_place_of_those_for_any() -> None:
    settings = WebhookSettings(standard_secrets={"*": ("every",), "hooks.example": ("new", "old")})
    assert list(settings.standard_secrets_for("hooks.example")) == ["new", "old"]
    assert list(settings.standard_secrets_for("other.example")) == ["every"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"allowed_hosts": ["http://host"]},
        {"allowed_hosts": ["10.0.0.1/8"]},
        {"signing_keys": {"Not A Block": ["*"]}},
        {"signing_keys": {"key": ["a b"]}},
        {"standard_secrets": {"hooks.example": ["whsec_AAAA"]}},
        {"connect_timeout_seconds": 0},
        {"max_response_bytes": 10**9},
        {"ca_file": "/no/such/file.pem"},
        {"unknown": 1},
    ],
)
def test_a_wrong_setting_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WebhookSettings.model_validate(wrong)
