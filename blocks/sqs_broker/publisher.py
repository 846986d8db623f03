"""Publishing: what can't be held has its own outcome, the rest goes in as few calls as it can."""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import uuid4

from blocks.errors import (
    BrokerError,
    BrokerRefusedError,
    BrokerUnavailableError,
    MessageNotAllowedError,
    MessageTooLargeError,
    UnsupportedError,
)
from blocks.message import DEFAULT_PRIORITY, Message, Published, utc_now
from blocks.sqs_broker.payload_store import PayloadStore
from blocks.sqs_broker.record import Record, record_of
from blocks.sqs_broker.sender import LONGEST_DELAY, Parcel, group_of, token_of

#: Kept free in every message, for what is added when it goes on as a copy or as a dead letter.
MARGIN: Final = 4 * 1024
#: Kept free for headers and the like when the largest body is told.
_HEADERS: Final = 16 * 1024

Send = Callable[[Sequence[Parcel]], Awaitable[Sequence[BrokerError | None]]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How large messages may be."""

    #: What SQS or SNS takes: body and attributes.
    message_bytes: int
    #: The largest body that is put into S3, where the block names a bucket.
    stored_bytes: int | None

    @property
    def inline_bytes(self) -> int:
        """The largest body that fits whatever its bytes are: as Base64 it takes a third more."""
        return (self.message_bytes - MARGIN - _HEADERS) * 3 // 4

    @property
    def body_bytes(self) -> int:
        """The largest body that is taken at all."""
        return self.stored_bytes or self.inline_bytes


class Publisher:
    """Makes parcels of messages for one kind of queue."""

    def __init__(self, store: PayloadStore, limits: Limits, *, fifo: bool) -> None:
        self._store = store
        self._limits = limits
        self._fifo = fifo

    async def publish(
        self, messages: Sequence[Message], send: Send, *, folder: str, to_topic: bool = False
    ) -> list[Published]:
        """Send messages, and return an outcome each, in order.

        A call whose answer was lost is made again; what is there twice then has one id. A FIFO
        queue drops the repetition.
        """
        outcomes: dict[int, Published] = {}
        parcels: dict[int, Parcel] = {}
        for place, message in enumerate(messages):
            try:
                parcels[place] = await self.parcel(message, folder, to_topic=to_topic)
            except BrokerError as error:
                outcomes[place] = Published(error=error)
        sent = await send(list(parcels.values())) if parcels else list[BrokerError | None]()
        for (place, parcel), error in zip(parcels.items(), sent, strict=True):
            outcomes[place] = Published(error=error) if error else Published(id=parcel.record.id)
        _raise_if_away([outcomes[place].error for place in parcels], messages)
        return [outcomes[place] for place in range(len(messages))]

    async def parcel(self, message: Message, folder: str, *, to_topic: bool = False) -> Parcel:
        """Write one message, its body into S3 where it is too large.

        Raises:
            BrokerError: The message can't be held, for a reason that it tells.
        """
        if message.priority != DEFAULT_PRIORITY:
            raise UnsupportedError(
                f"priority {message.priority} can't be held: SQS has no priorities; use a queue "
                "each"
            )
        message_id = message.id or uuid4().hex
        record = await self._fitting(message, message_id, folder, shared=to_topic)
        seconds = math.ceil(message.delay.total_seconds())
        # Neither a FIFO queue nor a topic delays single messages: whoever receives them does.
        carried = bool(seconds) and (self._fifo or to_topic or seconds > LONGEST_DELAY)
        if carried:
            record = replace(record, due=utc_now() + message.delay)
        if self._fifo:
            group = group_of(message.key, message_id)
            return Parcel(record=record, group=group, token=token_of(message, message_id))
        return Parcel(record=record, delay=0 if to_topic else seconds)

    async def _fitting(
        self, message: Message, message_id: str, folder: str, *, shared: bool
    ) -> Record:
        size, most = len(message.body), self._limits.body_bytes
        if size > most:
            raise MessageTooLargeError(
                f"the body has {size} bytes, and this SQS broker takes {most}; publish a "
                "reference to it instead, or name a bucket for such in `large_payload_bucket`"
            )
        record = record_of(message, message_id)
        room = self._limits.message_bytes - MARGIN
        total = record.size
        if total > room and self._store.is_there and size > MARGIN:
            record = await self._store.put(message.body, record, folder, shared=shared)
            total = record.size
        if total > room:
            raise MessageNotAllowedError(
                f"with its headers and its key the message has {total} bytes, and this SQS broker "
                f"takes {room}; shorten them"
            )
        return record


def _raise_if_away(errors: Sequence[BrokerError | None], messages: Sequence[Message]) -> None:
    """Where nothing went out at all, it is the call that has failed."""
    if errors and len(errors) == len(messages) and all(errors):
        for error in errors:
            if isinstance(error, BrokerUnavailableError | BrokerRefusedError):
                raise error
