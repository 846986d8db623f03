"""Signing what is sent, and checking what was received.

Two schemes: Standard Webhooks (https://www.standardwebhooks.com), which covers the delivery's id
and time as well as its body, and `X-Signature: <algorithm>=<hex>`, which covers the body alone
and so doesn't stop a replay.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, get_args

from noa_flows.errors import NoaError

Algorithm = Literal["sha256", "sha384", "sha512"]

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the public prefix, not a secret
_SECRET_BYTES: Final = range(24, 65)


class SignatureError(NoaError):
    """A received webhook isn't authentic: unsigned, signed otherwise, too old or too new."""


def secret_bytes(secret: str) -> bytes:
    """Decode a `whsec_…` secret into the key it stands for.

    Raises:
        ValueError: It isn't `whsec_` and base64 of 24 to 64 bytes. The text never shows it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(SECRET_PREFIX) or len(key) not in _SECRET_BYTES:
        raise ValueError("a webhook secret is 'whsec_' followed by base64 of 24 to 64 bytes")
    return key


def standard_headers(
    delivery_id: str, at: datetime, body: bytes, secrets: Iterable[str]
) -> dict[str, str]:
    """Build the Standard Webhooks headers of one attempt.

    Without secrets the id and the timestamp still go out, so that a receiver can recognise a
    repetition. With several, each signs: a receiver that knows any of them is content.

    Raises:
        ValueError: A secret is malformed.
    """
    stamp = str(int(at.timestamp()))
    headers = {"webhook-id": delivery_id, "webhook-timestamp": stamp}
    signatures = [_standard_signature(delivery_id, stamp, body, each) for each in secrets]
    return headers | ({"webhook-signature": " ".join(signatures)} if signatures else {})


def plain_signature(body: bytes, key: str, algorithm: Algorithm) -> str:
    """Build the value of `X-Signature`, such as `sha256=5f1c…`, over the raw body."""
    return f"{algorithm}={hmac.new(key.encode(), body, algorithm).hexdigest()}"


def verify(
    headers: Mapping[str, str],
    body: bytes,
    secrets: Sequence[str],
    *,
    tolerance: timedelta = timedelta(minutes=5),
    now: datetime | None = None,
) -> None:
    """Return if a received webhook was signed, in either scheme, with one of the secrets.

    For receivers. `body` is the raw body, before any parsing. Secrets that begin with `whsec_`
    check `webhook-signature`, all others check `X-Signature`.

    Raises:
        SignatureError: No signature fits, or the timestamp is off by more than the tolerance.
        ValueError: A `whsec_` secret is malformed.

    Example:
        >>> verify({"X-Signature": plain_signature(b"{}", "key", "sha256")}, b"{}", ["key"])
    """
    lower = {name.lower(): value for name, value in headers.items()}
    standard = [each for each in secrets if each.startswith(SECRET_PREFIX)]
    plain = [each for each in secrets if not each.startswith(SECRET_PREFIX)]
    if standard and "webhook-signature" in lower:
        _verify_standard(lower, body, standard, tolerance, now or datetime.now(UTC))
    elif plain and "x-signature" in lower:
        _verify_plain(lower["x-signature"], body, plain)
    else:
        raise SignatureError("the webhook has no signature that the given secrets could check")


def _standard_signature(delivery_id: str, stamp: str, body: bytes, secret: str) -> str:
    content = f"{delivery_id}.{stamp}.".encode() + body
    digest = hmac.digest(secret_bytes(secret), content, "sha256")
    return f"v1,{base64.b64encode(digest).decode('ascii')}"


def _verify_standard(
    headers: Mapping[str, str],
    body: bytes,
    secrets: Sequence[str],
    tolerance: timedelta,
    now: datetime,
) -> None:
    delivery_id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    # Eleven digits reach the year 5138; more would only overflow.
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 11):  # noqa: PLR2004
        raise SignatureError("webhook-timestamp is not a number of seconds")
    if abs(now - datetime.fromtimestamp(int(stamp), UTC)) > tolerance:
        raise SignatureError(
            f"webhook-timestamp differs from this machine's clock by more than {tolerance}"
        )
    expected = [_standard_signature(delivery_id, stamp, body, each) for each in secrets]
    if not _any_equal(headers["webhook-signature"].split(" "), expected):
        raise SignatureError("webhook-signature fits none of the secrets")


def _verify_plain(value: str, body: bytes, keys: Sequence[str]) -> None:
    expected = [plain_signature(body, key, each) for key in keys for each in get_args(Algorithm)]
    if not _any_equal([value], expected):
        raise SignatureError("X-Signature fits none of the secrets")


def _any_equal(given: Iterable[str], expected: Sequence[str]) -> bool:
    """Compare each with each, in a time that doesn't tell how far two agree."""
    pairs = [(one.encode(), other.encode()) for one in given for other in expected]
    return any(hmac.compare_digest(one, other) for one, other in pairs)
