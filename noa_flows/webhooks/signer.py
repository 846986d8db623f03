"""Choosing the operator's keys for a receiver, and signing each attempt with them."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import Field, field_validator

from noa_flows.errors import PermanentJobError
from noa_flows.payload import Payload
from noa_flows.webhooks.secret_reader import SecretReader
from noa_flows.webhooks.settings import WebhookSettings
from noa_flows.webhooks.signatures import (
    Algorithm,
    plain_signature,
    secret_bytes,
    standard_headers,
)

_BLOCK_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,99}")
#: The dot separates id, time and body in what is signed, so no id may bring its own.
_PLAIN_ID = re.compile(r"[!-\-/-~]{1,200}")


class WebhookSignature(Payload):
    """Asks for the header `X-Signature: <algorithm>=<hex>` over the raw body."""

    key: str = Field(
        description="Name of the Secret block in Prefect that holds the key; never the key itself."
    )
    algorithm: Algorithm = Field(default="sha256", description="The hash of the HMAC.")

    @field_validator("key")
    @classmethod
    def _refuse_literal_key(cls, key: str) -> str:
        if not _BLOCK_NAME.fullmatch(key):
            raise ValueError(
                "not the name of a Secret block; a key itself is refused in a message: put it "
                "into a Secret block, and give the block's name (lower case, digits, dashes)"
            )
        return key


def webhook_id(delivery_id: str) -> str:
    """Return the delivery id as `webhook-id`, hashed where it doesn't fit into one."""
    if _PLAIN_ID.fullmatch(delivery_id):
        return delivery_id
    return hashlib.sha256(delivery_id.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, repr=False)
class Signer:
    """Signs the attempts of one delivery; what it holds is secret, and never shown."""

    webhook_id: str
    body: bytes
    standard_secrets: tuple[str, ...]
    own_headers: Mapping[str, str]

    def headers(self, at: datetime) -> Mapping[str, str]:
        """Build the headers of the attempt that is made now."""
        standard = standard_headers(self.webhook_id, at, self.body, self.standard_secrets)
        return {**standard, **self.own_headers}


async def load_signer(
    delivery_id: str,
    body: bytes,
    host: str,
    *,
    settings: WebhookSettings,
    signature: WebhookSignature | None,
    read_secret: SecretReader,
) -> Signer:
    """Read the keys that sign what goes to this host.

    Raises:
        PermanentJobError: The message names a key that isn't the operator's, or isn't for this
            host; or a named block isn't there, or holds no proper secret.
        TemporaryJobError: The secrets can't be read now.
    """
    own: dict[str, str] = {}
    if signature is not None:
        key = await _own_key(signature, host, settings, read_secret)
        own["X-Signature"] = plain_signature(body, key, signature.algorithm)
    names = settings.standard_secrets_for(host)
    return Signer(
        webhook_id=webhook_id(delivery_id),
        body=body,
        standard_secrets=tuple([await _standard_secret(name, read_secret) for name in names]),
        own_headers=own,
    )


async def _own_key(
    signature: WebhookSignature, host: str, settings: WebhookSettings, read_secret: SecretReader
) -> str:
    if not settings.may_sign(signature.key, host):
        # The name is left out: it may be a key that someone has put there.
        raise PermanentJobError(
            f"signature.key: does not name a Secret block that may sign for {host!r}; the "
            "operator lists such blocks in the setting webhook.signing_keys, and a key itself "
            "never belongs into a message"
        )
    return await read_secret(signature.key)


async def _standard_secret(name: str, read_secret: SecretReader) -> str:
    secret = await read_secret(name)
    try:
        secret_bytes(secret)
    except ValueError as error:
        raise PermanentJobError(f"the Secret block {name!r}: {error}") from error
    return secret
