"""`noa dead`: list, show, redrive and discard dead letters."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import typer

from blocks.message import DeadLetter
from noa_flows.bridge.dead_letters import DeadLetters, event_id
from noa_flows.cli.options import (
    DEFAULT_QUEUE,
    BrokerOption,
    JsonOption,
    QueueOption,
    open_session,
)
from noa_flows.validation import shown

_LONGEST_ERROR: Final = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which dead letters are meant: those of these ids, or those of a reason."""

    ids: Sequence[str] = ()
    reason: str = ""
    limit: int = 1


dead = typer.Typer(help="Dead letters: messages that can't become a job.", no_args_is_help=True)

ReasonOption = Annotated[
    str, typer.Option(help="Only those that died of this: schema, unknown-type, forbidden, …")
]
IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]…", help="The ids that `noa dead list` shows.")
]
AllOption = Annotated[bool, typer.Option("--all", help="All of them, or all of --reason.")]
LimitOption = Annotated[int, typer.Option(min=1, help="At most so many.")]


@dead.command("list")
def list_dead(
    *,
    broker: BrokerOption = "",
    queue: QueueOption = DEFAULT_QUEUE,
    reason: ReasonOption = "",
    limit: LimitOption = 100,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, oldest first."""
    letters = asyncio.run(_find(broker, queue, Selection(reason=reason, limit=limit)))
    if as_json:
        typer.echo(json.dumps([_described(letter) for letter in letters], indent=2))
        return
    for letter in letters:
        died = letter.died_at.isoformat(timespec="seconds")
        name, error = shown(event_id(letter)), shown(letter.error, _LONGEST_ERROR)
        typer.echo(f"{name}  {died}  {letter.reason:<20} {error}")


@dead.command()
def show(
    message_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    broker: BrokerOption = "",
    queue: QueueOption = DEFAULT_QUEUE,
) -> None:
    """Show a dead letter whole, with its history and its body."""
    (letter,) = asyncio.run(_find(broker, queue, Selection(ids=(message_id,))))
    body = letter.body.decode("utf-8", errors="backslashreplace")
    typer.echo(json.dumps({**_described(letter), "body": body}, indent=2, ensure_ascii=False))


@dead.command()
def redrive(
    message_ids: IdsArgument = None,
    *,
    broker: BrokerOption = "",
    queue: QueueOption = DEFAULT_QUEUE,
    reason: ReasonOption = "",
    every: AllOption = False,
    limit: LimitOption = 1000,
) -> None:
    """Put dead letters back on their queue; each gets a new run."""
    selection = Selection(ids=_chosen(message_ids, every=every), reason=reason, limit=limit)
    settled = asyncio.run(_settle("redrive", broker, queue, selection))
    typer.echo(f"{len(settled)} redriven")


@dead.command()
def discard(
    message_ids: IdsArgument = None,
    *,
    broker: BrokerOption = "",
    queue: QueueOption = DEFAULT_QUEUE,
    reason: ReasonOption = "",
    every: AllOption = False,
    limit: LimitOption = 1000,
) -> None:
    """Forget dead letters for good."""
    selection = Selection(ids=_chosen(message_ids, every=every), reason=reason, limit=limit)
    settled = asyncio.run(_settle("discard", broker, queue, selection))
    typer.echo(f"{len(settled)} discarded")


def _chosen(message_ids: list[str] | None, *, every: bool) -> Sequence[str]:
    """Take the ids; none at all must be meant."""
    if bool(message_ids) == every:
        raise typer.BadParameter("give ids, or --all")
    return message_ids or ()


async def _find(broker: str, queue: str, selection: Selection) -> Sequence[DeadLetter]:
    async with open_session(broker) as session:
        return await _select(DeadLetters(session, queue), selection)


async def _settle(
    fate: Literal["redrive", "discard"], broker: str, queue: str, selection: Selection
) -> Sequence[DeadLetter]:
    async with open_session(broker) as session:
        letters = DeadLetters(session, queue)
        selected = await _select(letters, selection)
        act = letters.redrive if fate == "redrive" else letters.discard
        return await act(selected)


async def _select(letters: DeadLetters, selection: Selection) -> Sequence[DeadLetter]:
    if selection.ids:
        return [await letters.find(message_id) for message_id in selection.ids]
    found = letters.list(reason=selection.reason or None, limit=selection.limit)
    return [letter async for letter in found]


def _described(letter: DeadLetter) -> Mapping[str, Any]:
    return {
        "id": event_id(letter),
        "message_id": letter.id,
        "reason": letter.reason,
        "error": letter.error,
        "error_type": letter.error_type,
        "provider": letter.provider,
        "queue": letter.queue,
        "published": letter.published_at.isoformat(),
        "died": letter.died_at.isoformat(),
        "deliveries": letter.deliveries,
        "generation": letter.generation,
        "run_id": letter.run_id,
        "headers": dict(letter.headers),
    }
