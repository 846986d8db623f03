"""What the operator decides about webhooks."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FilePath

from noa_flows.webhooks.allowed_host import AllowedHost, canonical_host

#: Stands for every receiver where receivers are listed.
ANY_RECEIVER = "*"


def _allowed_host(text: str) -> str:
    AllowedHost.parse(text)
    return text


def _receiver(text: str) -> str:
    return text if text == ANY_RECEIVER else canonical_host(text)


AllowedHostText = Annotated[str, AfterValidator(_allowed_host)]
Receiver = Annotated[str, AfterValidator(_receiver)]
BlockName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=100)]


class WebhookSettings(BaseModel):
    """Where webhooks may go, with which keys they are signed, and how much they may cost.

    Keys are bound to receivers, since a key that signs for whichever URL a message names would
    sign for whoever can send a message.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    allowed_hosts: tuple[AllowedHostText, ...] = Field(
        default=(),
        description="Hosts that may be reached although their addresses are not public: "
        "`host`, `host:port`, an address, or a network such as `10.1.0.0/16`.",
    )
    signing_keys: dict[BlockName, tuple[Receiver, ...]] = Field(
        default_factory=dict[str, tuple[str, ...]],
        description="Prefect Secret blocks that a payload's `signature.key` may name, each with "
        "the host names it may sign for; `*` is any.",
    )
    standard_secrets: dict[Receiver, tuple[BlockName, ...]] = Field(
        default_factory=dict[str, tuple[str, ...]],
        description="For a receiver's host name, or `*`, the Prefect Secret blocks with the "
        "`whsec_` secrets that sign in the manner of Standard Webhooks; several while one is "
        "being replaced.",
    )
    ca_file: FilePath | None = Field(
        default=None,
        description="PEM file of certificate authorities to trust instead of the public ones.",
    )
    connect_timeout_seconds: float = Field(
        default=5.0, gt=0, le=30, description="Time to connect, for each address of a host."
    )
    max_retry_after_seconds: float = Field(
        default=300.0, ge=0, le=3600, description="The longest pause a Retry-After can ask for."
    )
    max_response_bytes: int = Field(
        default=1_048_576,
        ge=1024,
        le=16_777_216,
        description="How much of an answer is read to be validated; a message may ask for less.",
    )
    excerpt_characters: int = Field(
        default=1000, ge=0, le=10_000, description="How much of an answer the result shows."
    )
    schema_timeout_seconds: float = Field(
        default=5.0, gt=0, le=60, description="Time to validate an answer against its schema."
    )

    def allowed(self) -> tuple[AllowedHost, ...]:
        """Parse `allowed_hosts`."""
        return tuple(AllowedHost.parse(text) for text in self.allowed_hosts)

    def may_sign(self, key: str, host: str) -> bool:
        """Tell whether this block may sign what goes to this host."""
        receivers = self.signing_keys.get(key, ())
        return ANY_RECEIVER in receivers or host in receivers

    def standard_secrets_for(self, host: str) -> Iterable[str]:
        """Name the blocks whose secrets sign what goes to this host."""
        return self.standard_secrets.get(host, self.standard_secrets.get(ANY_RECEIVER, ()))
