"""What a message may put into the head of an HTTP request."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

import httpx

from noa_flows.webhooks.allowed_host import LAST_PORT, canonical_host

MAX_URL_CHARACTERS: Final = 2048
MAX_HEADERS: Final = 64

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_VALUE = re.compile(r"(?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?")
_MAX_VALUE_CHARACTERS: Final = 8192

#: These say where a request goes and where it ends, or are the delivery's own.
_RESERVED: Final = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_RESERVED_PREFIX: Final = "webhook-"


def check_url(url: str) -> None:
    """Refuse what isn't a plain http or https URL with a host.

    Raises:
        ValueError: The text names the rule, and never shows the URL, which may hold a password.
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise ValueError(f"the URL is longer than {MAX_URL_CHARACTERS} characters")
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        # The cause would quote parts of the URL.
        raise ValueError("not a URL; write it as https://host/path") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError("not an http or https URL with a host")
    if parsed.userinfo:
        raise ValueError("a user name or password in the URL is refused; use a header")
    if parsed.port is not None and not 0 < parsed.port <= LAST_PORT:
        raise ValueError(f"the port is not between 1 and {LAST_PORT}")
    canonical_host(parsed.raw_host.decode("ascii"))


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse headers that are malformed, that come twice, or that aren't the message's to set.

    Raises:
        ValueError: The text names the header, and never shows its value.
    """
    if len(headers) > MAX_HEADERS:
        raise ValueError(f"there are more than {MAX_HEADERS} headers")
    for name, value in headers.items():
        _check_header(name, value)
    for name, times in Counter(each.lower() for each in headers).items():
        if times > 1:
            raise ValueError(f"the header {name!r} is there more than once, in different cases")


def _check_header(name: str, value: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name[:100]!r} is not the name of a header")
    if name.lower() in _RESERVED or name.lower().startswith(_RESERVED_PREFIX):
        raise ValueError(f"the header {name!r} is set by the delivery itself; leave it out")
    if len(value) > _MAX_VALUE_CHARACTERS or not _VALUE.fullmatch(value):
        raise ValueError(
            f"the value of the header {name!r} is too long, or has a line break, another control "
            "character, a character outside ASCII, or a space at its edge"
        )
