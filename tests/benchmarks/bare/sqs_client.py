"""boto3: batches of ten, several calls at a time."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import boto3
from botocore.config import Config

from tests.benchmarks.bare.client import BODY

_AT_ONCE = 10
_TEN = 10


class BareSqs:
    """See `BareClient`."""

    def __init__(self, endpoint: str) -> None:
        # Typed by a generated package that isn't installed.
        self._sqs: Any = boto3.client(  # pyright: ignore[reportUnknownMemberType]
            "sqs",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(max_pool_connections=_AT_ONCE),
        )
        self._url = self._sqs.create_queue(QueueName=f"bare-{uuid4().hex}")["QueueUrl"]
        self._threads = ThreadPoolExecutor(_AT_ONCE)

    def publish(self, messages: int) -> None:
        list(self._threads.map(self._send, range(messages // _TEN)))

    def drain(self, messages: int) -> None:
        taken = 0
        while taken < messages:
            taken += sum(self._threads.map(self._take, range(_AT_ONCE)))

    def close(self) -> None:
        self._threads.shutdown()
        self._sqs.close()

    def _send(self, _number: int) -> None:
        entries = [{"Id": str(number), "MessageBody": BODY.decode()} for number in range(_TEN)]
        self._sqs.send_message_batch(QueueUrl=self._url, Entries=entries)

    def _take(self, _number: int) -> int:
        answer = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=_TEN)
        found = answer.get("Messages", [])
        if found:
            entries = [
                {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]}
                for number, one in enumerate(found)
            ]
            self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)
        return len(found)
