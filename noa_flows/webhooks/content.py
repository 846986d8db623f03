"""How the body of a webhook becomes bytes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message

from pydantic import JsonValue


@dataclass(frozen=True, kw_only=True)
class Content:
    """The bytes of a body, and the content type to send with them; None where there is no body."""

    body: bytes
    type: str | None


def encode_content(body: JsonValue, headers: Mapping[str, str]) -> Content:
    """Encode a body in the manner its content type asks for.

    - None is no body.
    - With a `Content-Type` that isn't JSON, text is sent as it is, in UTF-8; anything but text is
      refused, since nobody has said how to write it.
    - Everything else, text included, is sent as compact JSON in UTF-8.

    Raises:
        ValueError: The body can't be sent under that content type.
    """
    declared = next((v for name, v in headers.items() if name.lower() == "content-type"), None)
    if body is None:
        return Content(body=b"", type=declared)
    if declared is not None and not _is_json(declared):
        return Content(body=_raw(body, declared), type=declared)
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Content(body=text.encode(), type=declared or "application/json")


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _raw(body: JsonValue, content_type: str) -> bytes:
    if not isinstance(body, str):
        # Not a TypeError: pydantic turns only a ValueError into an error of the field.
        raise ValueError(f"with the content type {content_type!r} the body must be text")  # noqa: TRY004
    message = Message()
    message["Content-Type"] = content_type
    charset = message.get_content_charset("utf-8")
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise ValueError(f"text is sent in UTF-8, and the content type says {charset!r}")
    return body.encode()
