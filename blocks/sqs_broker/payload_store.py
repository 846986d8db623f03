"""Bodies that are too large for SQS: they lie in S3, and the message refers to them."""

import hashlib
import json
import logging
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

from blocks.errors import BrokerError, BrokerRefusedError
from blocks.sqs_broker.record import Record, Reference
from blocks.sqs_broker.text import from_text
from blocks.sqs_broker.wire import Wire

ENCODING: Final = "s3"
#: Says on a delivery why the body is the reference itself.
UNREADABLE: Final = "noa-unreadable"

_logger = logging.getLogger(__name__)


class PayloadStore:
    """A folder in a bucket. What lies elsewhere is never read, whatever a message says."""

    def __init__(self, wire: Wire, bucket: str | None, prefix: str) -> None:
        self._wire = wire
        self._bucket = bucket
        self._prefix = prefix

    @property
    def is_there(self) -> bool:
        """Whether the block names a bucket."""
        return self._bucket is not None

    async def put(self, body: bytes, record: Record, folder: str, *, shared: bool) -> Record:
        """Store a body, and return the record that refers to it."""
        assert self._bucket is not None
        key = f"{self._prefix}{folder}/{uuid4().hex}"
        await self._wire.call("s3", "put_object", Bucket=self._bucket, Key=key, Body=body)
        digest = hashlib.sha256(body).hexdigest()
        reference = Reference(self._bucket, key, len(body), digest, shared=shared)
        # For people; what is read is in the attribute.
        text = json.dumps({"s3": f"s3://{self._bucket}/{key}", "size": len(body)})
        return replace(record, text=text, encoding=ENCODING, reference=reference)

    async def body_of(self, record: Record) -> tuple[bytes, str | None]:
        """Read a body.

        Returns:
            The body, and what was wrong where it is the reference only.

        Raises:
            BrokerUnavailableError: S3 doesn't answer now.
        """
        if record.encoding != ENCODING:
            return from_text(record.text, record.encoding), None
        reference = record.reference
        if reference is None or not self._is_ours(reference):
            return record.text.encode(), "it refers to an object outside of this block's bucket"
        try:
            body = await self._wire.run(lambda: self._read(reference))
        except BrokerRefusedError as error:
            return record.text.encode(), str(error)
        if len(body) != reference.size or hashlib.sha256(body).hexdigest() != reference.sha256:
            return record.text.encode(), "the object isn't the one that was stored"
        return body, None

    async def remove(self, record: Record) -> None:
        """Remove the body of a message that is done with; a failure leaves it to the bucket."""
        reference = record.reference
        if reference is None or reference.shared or not self._is_ours(reference):
            return
        try:
            await self._wire.call("s3", "delete_object", Bucket=reference.bucket, Key=reference.key)
        except BrokerError as error:
            _logger.warning("s3://%s/%s stays there: %s", reference.bucket, reference.key, error)

    def _is_ours(self, reference: Reference) -> bool:
        return reference.bucket == self._bucket and reference.key.startswith(self._prefix)

    def _read(self, reference: Reference) -> bytes:
        answer: Any = self._wire.client("s3").get_object(Bucket=reference.bucket, Key=reference.key)
        with answer["Body"] as stream:
            # One byte more than it should be tells a larger one, without taking it in.
            return stream.read(reference.size + 1)
