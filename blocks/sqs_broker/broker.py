"""AWS SQS as a broker.

A queue `orders` is two queues at SQS: `orders`, and `orders-dead` for the dead letters; with `fifo`
they are `orders.fifo` and `orders-dead.fifo`. Anybody can publish with `SendMessage`; `record.py`
beside this file says what else stands in a message. docs/providers/sqs.md lists the permissions.

SQS delivers at least once, and a standard queue may do so twice for no reason: both deliveries have
the same id. A call whose answer was lost is made again by the driver; what is there twice then has
the same id too, and a FIFO queue drops it.
"""

import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from prefect_aws.credentials import AwsCredentials
from pydantic import Field, HttpUrl, SecretStr, ValidationError, model_validator

from blocks.broker import Broker
from blocks.capabilities import Capabilities, Order
from blocks.errors import BrokerConfigurationError
from blocks.sqs_broker.credentials import session_of_block, session_of_key
from blocks.sqs_broker.payload_store import PayloadStore
from blocks.sqs_broker.publisher import Limits
from blocks.sqs_broker.queues import QueueSettings
from blocks.sqs_broker.session import SqsSession
from blocks.sqs_broker.wire import Endpoint, Wire

if TYPE_CHECKING:
    from boto3 import Session

#: With a bucket for them; a batch of ten is in memory at once.
_MAX_STORED_BYTES: Final = 16 * 1024 * 1024
_OPTIONS: Final = (
    *("endpoint", "fifo", "declare", "lease_seconds", "timeout_seconds"),
    *("max_message_bytes", "large_payload_bucket", "large_payload_prefix", "tls_ca_file"),
)


class SqsBroker(Broker):
    """Queues at AWS SQS: standard ones, or FIFO ones that keep the order of each key.

    Example:
        >>> async with SqsBroker(region="eu-central-1").connect() as session:
        ...     await session.declare("orders")
        ...     await session.publish("orders", [Message(body=b"{}")])
    """

    _block_type_name = "SQS Broker"
    _block_type_slug = "sqs-broker"
    _description = "Queues on AWS SQS, standard or FIFO; topics on SNS, large payloads on S3."
    _documentation_url = HttpUrl(
        "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/"
    )

    region: str = Field(pattern=r"^[a-z0-9-]+$", description="The queues' region.")
    endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s@]+$",
        description="URL of another service that speaks SQS, SNS and S3, such as a test server's.",
    )
    credentials: AwsCredentials | None = Field(
        default=None, description="Credentials of prefect-aws, with their role and parameters."
    )
    access_key_id: str | None = Field(
        default=None, description="Id of a key; without one, AWS's own chain is asked."
    )
    secret_access_key: SecretStr | None = Field(default=None, description="The key's secret half.")
    session_token: SecretStr | None = Field(
        default=None, description="Token of a temporary key; it isn't renewed."
    )
    tls_ca_file: str | None = Field(
        default=None, description="Certificates to trust, in PEM; the driver's own without it."
    )
    fifo: bool = Field(default=False, description="FIFO queues and topics, instead of standard.")
    declare: bool = Field(
        default=True, description="Queues and topics may be made; else they are only checked."
    )
    max_receive_count: int = Field(
        default=1_000,
        ge=10,
        le=1_000,
        description="After so many receives SQS itself moves a message to the dead letters; keep "
        "it well above `bridge.max_deliveries`, which comes first and gives the reason.",
    )
    sse_sqs: bool | None = Field(
        default=None, description="Encryption at rest with SQS's own keys (SSE-SQS)."
    )
    kms_key_id: str | None = Field(
        default=None, description="Encryption at rest with this KMS key (SSE-KMS)."
    )
    kms_reuse_seconds: int | None = Field(
        default=None, ge=60, le=86_400, description="How long a data key of KMS is used again."
    )
    max_message_bytes: int = Field(
        default=1024 * 1024,
        ge=64 * 1024,
        le=1024 * 1024,
        description="What the service takes, body and attributes: 1 MiB, formerly 256 KiB.",
    )
    large_payload_bucket: str | None = Field(
        default=None, min_length=3, description="Bucket for bodies that SQS doesn't take."
    )
    large_payload_prefix: str = Field(
        default="noa/", min_length=1, description="Their folder; nothing else is ever read."
    )
    connect_timeout_seconds: float = Field(
        default=2.0, gt=0, le=60, description="How long connecting may take, in seconds."
    )
    timeout_seconds: float = Field(
        default=5.0, ge=1, le=300, description="How long an answer may take beyond the waiting."
    )
    max_attempts: int = Field(
        default=3, ge=1, le=10, description="How often a call is made before it counts as failed."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.credentials is not None and self.access_key_id is not None:
            raise ValueError("give either `credentials` or `access_key_id`")
        if (self.access_key_id is None) is not (self.secret_access_key is None):
            raise ValueError("give both `access_key_id` and `secret_access_key`, or none")
        if self.sse_sqs and self.kms_key_id is not None:
            raise ValueError("give either `sse_sqs` or `kms_key_id`")
        return self

    @property
    def capabilities(self) -> Capabilities:
        """Standard and FIFO queues differ in their order; a bucket takes larger bodies."""
        return Capabilities(
            priority_levels=1,
            selects_band=False,
            delay=True,
            order=Order.KEY if self.fifo else Order.NONE,
            dead_letters=True,
            topics=True,
            topic_patterns=False,
            networked=True,
            counts_deliveries=True,
            sees_all_in_flight=True,
            tells_age=False,
            max_body_bytes=self._limits().body_bytes,
        )

    @classmethod
    def variants(cls) -> Mapping[str, Self]:
        """Standard queues and FIFO queues."""
        return {
            "SQS standard": cls(region="eu-central-1"),
            "SQS FIFO": cls(region="eu-central-1", fifo=True),
        }

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Build the block from `sqs://key-id:secret@region?endpoint=…&fifo=true`.

        Without a key AWS's own chain of credentials is asked. Other options are the fields of the
        same name: `declare`, `lease_seconds`, `timeout_seconds`, `max_message_bytes`,
        `large_payload_bucket`, `large_payload_prefix`, `tls_ca_file`.

        Raises:
            BrokerConfigurationError: A part of the URL is wrong; the message never quotes it.
        """
        try:
            return cls.model_validate(_fields(url))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, one['loc'])) or 'the key'}: {one['msg']}"
                for one in error.errors()
            )
            raise BrokerConfigurationError(f"the SQS URL is wrong: {problems}") from None
        except ValueError:
            raise BrokerConfigurationError(
                "the SQS URL is wrong: write sqs://key-id:secret@region?endpoint=…, and special "
                "characters of the secret as %XX"
            ) from None

    @property
    def address(self) -> str:
        """`sqs://region`, with the endpoint where it isn't Amazon's."""
        endpoint = self._endpoint_url
        query = f"?{urlencode({'endpoint': endpoint}, safe=':/')}" if endpoint else ""
        return f"sqs://{self.region}{query}"

    @asynccontextmanager
    async def connect(self) -> AsyncGenerator[SqsSession]:
        """Open a session; when it ends, what it still holds is given back uncounted.

        Raises:
            BrokerUnavailableError: Nobody answers at the address.
            BrokerRefusedError: The credentials or the certificate are wrong.
            BrokerConfigurationError: No credentials were found.
        """
        wire = Wire(self._endpoint())
        store = PayloadStore(wire, self.large_payload_bucket, self.large_payload_prefix)
        # Rounded up: SQS knows whole seconds.
        visibility = math.ceil(self.lease_seconds)
        session = SqsSession(
            wire, self._queue_settings(), store, self._limits(), visibility=visibility
        )
        try:
            await wire.probe()
            yield session
        finally:
            await session.close()

    @property
    def _endpoint_url(self) -> str | None:
        if self.endpoint is not None or self.credentials is None:
            return self.endpoint
        return self.credentials.aws_client_parameters.endpoint_url

    def _limits(self) -> Limits:
        stored = _MAX_STORED_BYTES if self.large_payload_bucket else None
        return Limits(message_bytes=self.max_message_bytes, stored_bytes=stored)

    def _queue_settings(self) -> QueueSettings:
        encryption: dict[str, str] = {}
        if self.sse_sqs is not None:
            encryption["SqsManagedSseEnabled"] = str(self.sse_sqs).lower()
        if self.kms_key_id is not None:
            encryption["KmsMasterKeyId"] = self.kms_key_id
        if self.kms_reuse_seconds is not None:
            encryption["KmsDataKeyReusePeriodSeconds"] = str(self.kms_reuse_seconds)
        return QueueSettings(
            fifo=self.fifo,
            may_declare=self.declare,
            max_receive_count=self.max_receive_count,
            encryption=encryption,
        )

    def _endpoint(self) -> Endpoint:
        options: dict[str, Any] = {}
        if self.credentials is not None:
            options |= self.credentials.aws_client_parameters.get_params_override()
        if self._endpoint_url:
            options["endpoint_url"] = self._endpoint_url
        if self.tls_ca_file:
            options["verify"] = self.tls_ca_file
        return Endpoint(
            address=self.address,
            open_session=self._open_session,
            client_options=options,
            connect_timeout=self.connect_timeout_seconds,
            timeout=self.timeout_seconds,
            attempts=self.max_attempts,
        )

    def _open_session(self) -> "Session":
        if self.credentials is not None:
            return session_of_block(
                self.credentials, region=self.region, endpoint=self._endpoint_url
            )
        secret, token = (
            one.get_secret_value() if one else None
            for one in (self.secret_access_key, self.session_token)
        )
        return session_of_key(self.access_key_id, secret, token, region=self.region)


def _fields(url: str) -> dict[str, object]:
    parts = urlsplit(url)
    fields: dict[str, object] = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    if unknown := fields.keys() - set(_OPTIONS):
        raise BrokerConfigurationError(
            f"the SQS URL has unknown options {', '.join(sorted(unknown))}; "
            f"{', '.join(_OPTIONS)} can be set there"
        )
    if parts.path.strip("/") or parts.port:
        raise BrokerConfigurationError(
            "the SQS URL has a port or a path; write sqs://key-id:secret@region?endpoint=…"
        )
    if parts.username:
        fields["access_key_id"] = unquote(parts.username)
    if parts.password:
        fields["secret_access_key"] = unquote(parts.password)
    return fields | {"region": parts.hostname or ""}
