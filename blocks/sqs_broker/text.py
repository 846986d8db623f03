"""Bodies are bytes, and SQS takes text: https://www.w3.org/TR/REC-xml/#charsets, never empty."""

import re
import zlib
from base64 import b64decode, b64encode, b85decode, b85encode
from binascii import Error as Base64Error
from typing import Final

BASE64: Final = "base64"
EMPTY: Final = "empty"
ZLIB: Final = "zlib"

#: More than any text has that was packed here; less than what a stranger's could fill memory with.
_LONGEST_UNPACKED: Final = 4 * 1024 * 1024

_FORBIDDEN: Final = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_text(body: bytes) -> tuple[str, str | None]:
    """Write a body as SQS takes it: as it is where that can be, so that others can read it.

    Returns:
        The text, and its encoding where it isn't plain.
    """
    if not body:
        return "-", EMPTY
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return b64encode(body).decode(), BASE64
    if _FORBIDDEN.search(text):
        return b64encode(body).decode(), BASE64
    return text, None


def packed(text: str, encoding: str | None) -> tuple[str, str | None]:
    """Write a plain text shorter, for a message that others have filled to the last byte."""
    if encoding is not None:
        return text, encoding
    return b85encode(zlib.compress(text.encode())).decode(), ZLIB


def from_text(text: str, encoding: object) -> bytes:
    """Read a body; what isn't in the encoding that it claims is taken as it stands."""
    if encoding == EMPTY:
        return b""
    try:
        if encoding == BASE64:
            return b64decode(text, validate=True)
        if encoding == ZLIB:
            return zlib.decompressobj().decompress(b85decode(text), _LONGEST_UNPACKED)
    except (Base64Error, ValueError, zlib.error):
        pass
    return text.encode(errors="replace")


def allowed(text: str) -> str:
    """Replace what SQS doesn't take in a text for people."""
    return _FORBIDDEN.sub("?", text)
