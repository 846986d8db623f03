"""Sending: ten messages a call, and no more bytes than a call may have, with an outcome each."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from blocks.errors import BrokerError, BrokerRefusedError, MessageNotAllowedError
from blocks.message import Message
from blocks.sqs_broker.errors import from_answer
from blocks.sqs_broker.record import Record
from blocks.sqs_broker.text import packed
from blocks.sqs_broker.wire import Wire

#: What SQS and SNS take at once.
BATCH: Final = 10
#: SQS delays nothing for longer, in seconds.
LONGEST_DELAY: Final = 900


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """One message, ready to be sent."""

    record: Record
    #: Attributes beside `noa`.
    more: Mapping[str, str] | None = None
    delay: int = 0
    #: On FIFO queues, the group and what tells a repetition.
    group: str | None = None
    token: str | None = None

    @property
    def size(self) -> int:
        """What SQS counts."""
        more = sum(len(name) + len(value) + 16 for name, value in (self.more or {}).items())
        return self.record.size + more

    def fitting(self, limit: int) -> "Parcel":
        """The same, its body packed where others have left no room for what is added."""
        if self.size <= limit:
            return self
        text, encoding = packed(self.record.text, self.record.encoding)
        return replace(self, record=replace(self.record, text=text, encoding=encoding))

    def entry(self, number: int, body_name: str = "MessageBody") -> dict[str, Any]:
        """As a batch takes it."""
        entry: dict[str, Any] = {
            "Id": str(number),
            body_name: self.record.text,
            "MessageAttributes": self.record.attributes(self.more),
        }
        if self.delay:
            entry["DelaySeconds"] = min(self.delay, LONGEST_DELAY)
        if self.group is not None:
            entry |= {"MessageGroupId": self.group, "MessageDeduplicationId": self.token}
        return entry


async def send(
    wire: Wire, url: str, parcels: Sequence[Parcel], *, limit: int
) -> list[BrokerError | None]:
    """Send to a queue; a message that wasn't accepted has its error."""

    async def call(batch: Sequence[Parcel]) -> dict[str, Any]:
        entries = [parcel.entry(number) for number, parcel in enumerate(batch)]
        return await wire.call("sqs", "send_message_batch", QueueUrl=url, Entries=entries)

    return await _in_batches(wire, parcels, call, limit)


async def send_to_topic(
    wire: Wire, arn: str, parcels: Sequence[Parcel], *, limit: int
) -> list[BrokerError | None]:
    """Send to a topic; a message that wasn't accepted has its error."""

    async def call(batch: Sequence[Parcel]) -> dict[str, Any]:
        entries = [parcel.entry(number, "Message") for number, parcel in enumerate(batch)]
        return await wire.call(
            "sns", "publish_batch", TopicArn=arn, PublishBatchRequestEntries=entries
        )

    return await _in_batches(wire, parcels, call, limit)


def token_of(message: Message, message_id: str) -> str:
    """What tells a repetition from something else under the same id: everything there is."""
    parts = (
        message_id,
        message.generation,
        message.deliveries,
        message.key,
        sorted(message.headers.items()),
        hashlib.sha256(message.body).hexdigest(),
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def group_of(key: str | None, message_id: str) -> str:
    """The group of a key, or one for this message alone, which nothing else waits for."""
    if key is None:
        return f"noa-{hashlib.sha256(message_id.encode()).hexdigest()}"
    if key.isascii() and key.isprintable() and " " not in key and len(key) <= _LONGEST_GROUP:
        return key
    return f"noa-key-{hashlib.sha256(key.encode()).hexdigest()}"


_LONGEST_GROUP: Final = 128


async def _in_batches(
    wire: Wire,
    parcels: Sequence[Parcel],
    call: Callable[[Sequence[Parcel]], Awaitable[dict[str, Any]]],
    limit: int,
) -> list[BrokerError | None]:
    async def outcome(batch: Sequence[Parcel]) -> list[BrokerError | None]:
        try:
            answer = await call(batch)
        except BrokerError as error:
            return [error] * len(batch)
        failed = {int(one["Id"]): one for one in answer.get("Failed", ())}
        return [
            _told(failed[number], wire.address) if number in failed else None
            for number in range(len(batch))
        ]

    batches = list(_cut(parcels, limit))
    if any(parcel.group is not None for parcel in parcels):
        # What is in one group has to arrive in order.
        outcomes = [await outcome(batch) for batch in batches]
    else:
        outcomes = await asyncio.gather(*map(outcome, batches))
    return [one for some in outcomes for one in some]


def _cut(parcels: Sequence[Parcel], limit: int) -> Iterator[Sequence[Parcel]]:
    batch: list[Parcel] = []
    size = 0
    for parcel in parcels:
        more = parcel.size
        if batch and (len(batch) == BATCH or size + more > limit):
            yield batch
            batch, size = [], 0
        batch.append(parcel)
        size += more
    if batch:
        yield batch


def _told(failure: Mapping[str, Any], address: str) -> BrokerError:
    error = from_answer(str(failure.get("Code", "")), str(failure.get("Message", "")), address)
    if failure.get("SenderFault") and type(error) is BrokerRefusedError:
        return MessageNotAllowedError(str(error))
    return error
