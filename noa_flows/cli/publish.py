"""`noa publish`: put a job on a queue."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from blocks.broker import Broker
from blocks.message import DEFAULT_PRIORITY, Message, Published
from blocks.providers import load_broker
from noa_flows.cli.options import DEFAULT_QUEUE, BrokerOption, QueueOption
from noa_flows.envelope import BINDING_PREFIXES, Origin, decode, encode
from noa_flows.errors import ConfigurationError, EnvelopeError, PayloadError
from noa_flows.event import Event
from noa_flows.jobs import find_job
from noa_flows.payload_names import snake_cased
from noa_flows.settings import get_settings
from noa_flows.strict_json import JsonLimits, is_object, load_json


def publish(
    job_type: Annotated[str, typer.Argument(metavar="TYPE", help="The job type, such as report.")],
    data: Annotated[
        str, typer.Option(help="The payload as JSON; @file reads a file, @- standard input.")
    ] = "{}",
    *,
    broker: BrokerOption = "",
    queue: QueueOption = DEFAULT_QUEUE,
    topic: Annotated[
        str, typer.Option(help="Send a copy to every queue that has subscribed to this instead.")
    ] = "",
    message_id: Annotated[
        str, typer.Option("--id", help="The job's id; a repeated one starts nothing new.")
    ] = "",
    source: Annotated[str, typer.Option(help="Who sends it.")] = "noa-cli",
    subject: Annotated[str, typer.Option(help="What it is about; names the run.")] = "",
    priority: Annotated[
        int, typer.Option(min=0, max=9, help="0 is the highest, 9 the lowest.")
    ] = DEFAULT_PRIORITY,
    delay_seconds: Annotated[float, typer.Option(min=0.0, help="Not started before.")] = 0.0,
    binary: Annotated[
        bool,
        typer.Option("--binary", help="Attributes as headers, where CloudEvents has a binding."),
    ] = False,
) -> None:
    """Put a job on a queue, or broadcast it to a topic, and print its id."""
    limits = _limits()
    payload = _read_payload(data, limits)
    _check(job_type, payload)
    event = Event(
        id=message_id or uuid4().hex,
        source=source,
        job_type=job_type,
        data=payload,
        subject=subject or None,
        priority=priority,
        not_before=_later(delay_seconds),
        time=datetime.now(UTC),
    )
    asyncio.run(_send(event, limits, _Destination(broker, queue, topic), binary=binary))
    typer.echo(event.id)


@dataclass(frozen=True, slots=True)
class _Destination:
    """Where a message goes: to a queue, or to a topic where one is given."""

    reference: str
    queue: str
    topic: str


async def _send(event: Event, limits: JsonLimits, to: _Destination, *, binary: bool) -> None:
    broker = await load_broker(to.reference or get_settings().provider.url)
    message = _message(event, limits, broker, binary=binary)
    async with broker.connect() as session:
        if to.topic:
            _demand(await session.broadcast(to.topic, [message]))
            return
        await session.declare(to.queue)
        _demand(await session.publish(to.queue, [message]))


def _demand(outcomes: Sequence[Published]) -> None:
    """See that the one message was accepted."""
    (published,) = outcomes
    if published.error is not None:
        raise published.error


def _limits() -> JsonLimits:
    """The limits that consumers with the same settings hold messages to."""
    bridge = get_settings().bridge
    return JsonLimits(max_body_bytes=bridge.max_body_bytes, max_nesting=bridge.max_nesting)


def _message(event: Event, limits: JsonLimits, broker: Broker, *, binary: bool) -> Message:
    """Encode the event as the broker can hold it, and read it as the consumer will."""
    slug = broker.get_block_type_slug()
    if binary and slug not in BINDING_PREFIXES:
        raise ConfigurationError(
            f"--binary: CloudEvents has no binding for {slug}; leave it out, and the event is sent "
            "whole in the body"
        )
    try:
        body, headers = (
            encode(event, "binary", prefix=BINDING_PREFIXES[slug]) if binary else encode(event)
        )
    except UnicodeEncodeError as error:
        raise ConfigurationError("the options hold bytes that are not UTF-8") from error
    decode(body, headers, origin=Origin(id=event.id, source=event.source), limits=limits)
    if broker.capabilities.priority_levels == 1:
        # The event has its priority all the same, and its run the work queue that goes with it.
        return Message(body=body, headers=headers)
    return Message(body=body, headers=headers, priority=event.priority)


def _check(job_type: str, payload: dict[str, Any]) -> None:
    """Refuse here what the consumer would send to the dead letters."""
    job = find_job(job_type)
    try:
        job.parse(snake_cased(payload, job.payload_model))
    except PayloadError as error:
        raise error.below("data") from error


def _read_payload(data: str, limits: JsonLimits) -> dict[str, Any]:
    try:
        payload = load_json(_read_bytes(data), limits)
    except (OSError, UnicodeEncodeError, EnvelopeError) as error:
        raise ConfigurationError(f"--data: {error}") from error
    if not is_object(payload):
        raise ConfigurationError("--data: must be a JSON object, the job's payload")
    return payload


def _read_bytes(data: str) -> bytes:
    if data == "@-":
        return sys.stdin.buffer.read()
    if data.startswith("@"):
        return Path(data[1:]).read_bytes()
    return data.encode()


def _later(delay_seconds: float) -> datetime | None:
    return datetime.now(UTC) + timedelta(seconds=delay_seconds) if delay_seconds else None
