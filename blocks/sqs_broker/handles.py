"""Deleting, and changing when something is visible again: ten receipt handles a call."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from blocks.errors import BrokerError, LeaseLostError
from blocks.sqs_broker.errors import from_answer, is_lost
from blocks.sqs_broker.sender import BATCH
from blocks.sqs_broker.wire import Wire


async def delete(wire: Wire, url: str, handles: Sequence[str]) -> list[BrokerError | None]:
    """Delete messages; one outcome a handle."""

    async def call(batch: Sequence[str]) -> dict[str, Any]:
        entries = [{"Id": str(n), "ReceiptHandle": one} for n, one in enumerate(batch)]
        return await wire.call("sqs", "delete_message_batch", QueueUrl=url, Entries=entries)

    return await _in_batches(wire, handles, call)


async def change_visibility(
    wire: Wire, url: str, handles: Sequence[tuple[str, int]]
) -> list[BrokerError | None]:
    """Let messages be visible again in so many seconds; one outcome a handle."""

    async def call(batch: Sequence[tuple[str, int]]) -> dict[str, Any]:
        entries = [
            {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": seconds}
            for n, (handle, seconds) in enumerate(batch)
        ]
        return await wire.call(
            "sqs", "change_message_visibility_batch", QueueUrl=url, Entries=entries
        )

    return await _in_batches(wire, handles, call)


async def _in_batches(
    wire: Wire, items: Sequence[Any], call: Callable[[Sequence[Any]], Awaitable[dict[str, Any]]]
) -> list[BrokerError | None]:
    async def outcome(batch: Sequence[Any]) -> list[BrokerError | None]:
        try:
            answer = await call(batch)
        except BrokerError as error:
            return [error] * len(batch)
        failed = {int(one["Id"]): one for one in answer.get("Failed", ())}
        return [
            _told(failed[number], wire.address) if number in failed else None
            for number in range(len(batch))
        ]

    batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    outcomes = await asyncio.gather(*map(outcome, batches))
    return [one for some in outcomes for one in some]


def _told(failure: Mapping[str, Any], address: str) -> BrokerError:
    code, text = str(failure.get("Code", "")), str(failure.get("Message", ""))
    if is_lost(code, text):
        return LeaseLostError(f"{address}: the message is no longer held: {text or code}")
    return from_answer(code, text, address)
