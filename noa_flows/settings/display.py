"""Shows a wrong value to people, unless it is secret or may be."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

MASK = "***"

_LONGEST = 60
_SECRET_WORDS = ("password", "passphrase", "secret", "token", "credentials")
_SECRET_PART = re.compile(r"pass|pwd|pw$|secret|token|key|credential|auth|dsn|url")
_LOGIN_IN_URL = re.compile(r"//\S*@")


def shown_value(value: object, *, name: str = "", secret: bool = False) -> str:
    """Write a value so that it may be printed.

    Args:
        value: The value as the source gave it.
        name: The name of an unknown field, which may be a misspelt secret; empty for a known one.
        secret: Whether the value is secret, or holds something that is.
    """
    if secret or _may_be_secret(name):
        return MASK
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list"
    text = without_logins(repr(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def without_logins(text: str) -> str:
    """Mask what stands before the host in a URL."""
    return _LOGIN_IN_URL.sub(f"//{MASK}@", text)


def _may_be_secret(name: str) -> bool:
    """Judge an unknown name; `pasword` is a password, too."""
    last = name.lower().rpartition("__")[2]
    return bool(_SECRET_PART.search(name.lower()) or get_close_matches(last, _SECRET_WORDS))
