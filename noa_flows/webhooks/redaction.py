"""What of a webhook may be seen in logs, artifacts and results."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import httpx

#: Chat services put the token of a webhook into its path; tokens are long, words are short.
_TOKEN_IN_PATH: Final = re.compile(r"[^/]{20,}")
_TELLING_NAME: Final = re.compile(
    r"auth|cookie|token|secret|key|passw|credential|signature|session", re.IGNORECASE
)
#: Shorter pieces, such as the word "Basic", would blacken innocent text.
_SHORTEST_SECRET: Final = 6
_HIDDEN: Final = "…"


def redacted_url(url: str) -> str:
    """Keep of a URL what identifies the receiver: without query, and without tokens in the path.

    >>> redacted_url("https://chat.example/hooks/T0/B7f3a9c2e4d5b6a7980123?token=secret")
    'https://chat.example/hooks/T0/…?…'
    """
    parsed = httpx.URL(url)
    path = _TOKEN_IN_PATH.sub(_HIDDEN, parsed.path)
    query = f"?{_HIDDEN}" if parsed.query else ""
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}{path}{query}"


def secret_values(url: str, headers: Mapping[str, str]) -> frozenset[str]:
    """Collect what a receiver must not be seen to echo.

    That is the values in the URL's query, and those of headers whose names speak of credentials,
    each as a whole and in its parts.
    """
    values = [value for name, value in headers.items() if _TELLING_NAME.search(name)]
    values += [value for _, value in httpx.URL(url).params.multi_items()]
    parts = [part for value in values for part in (value, *re.split(r"[\s;,=]+", value))]
    return frozenset(part for part in parts if len(part) >= _SHORTEST_SECRET)


def without(text: str, secrets: Iterable[str]) -> str:
    """Blacken every secret that a receiver has echoed."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text
