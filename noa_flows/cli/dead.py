"""`noa dead`: list, show, redrive and discard dead letters."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from blocks.message import DeadLetter
from noa_flows.bridge.dead_letters import DeadLetters, Selection, event_id
from noa_flows.cli.options import (
    DEFAULT_QUEUE,
    BrokerOption,
    JsonOption,
    QueueOption,
    open_session,
)
from noa_flows.validation import shown

_LONGEST_ERROR: Final = 120


dead = typer.Typer(help="Dead letters: messages that can't become a job.", no_args_is_help=True)

ReasonOption = Annotated[
    str, typer.Option(help="Only those that died of this: schema, unknown-type, forbidden, …")
]
JobOption = Annotated[str, typer.Option(help="Only those of this job type, such as report.")]
ErrorTypeOption = Annotated[str, typer.Option(help="Only those that this class of error killed.")]
SinceOption = Annotated[datetime | None, typer.Option(help="Only those that died at or after.")]
UntilOption = Annotated[datetime | None, typer.Option(help="Only those that died before.")]
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
    job: JobOption = "",
    error_type: ErrorTypeOption = "",
    since: SinceOption = None,
    until: UntilOption = None,
    limit: LimitOption = 100,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, oldest first."""
    selection = _selection(reason, job, error_type, since, until)
    letters = asyncio.run(_list(broker, queue, selection, limit))
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
    letter = asyncio.run(_find(broker, queue, message_id))
    body = letter.body.decode("utf-8", errors="backslashreplace")
    typer.echo(json.dumps({**_described(letter), "body": body}, indent=2, ensure_ascii=False))


@dead.command()
def redrive(
    message_ids: IdsArgument = None,
    *,
    broker: BrokerOption = "",
    queue: QueueOption = DEFAULT_QUEUE,
    reason: ReasonOption = "",
    job: JobOption = "",
    error_type: ErrorTypeOption = "",
    since: SinceOption = None,
    until: UntilOption = None,
    every: AllOption = False,
    limit: LimitOption = 1000,
    rate: Annotated[float, typer.Option(min=0.1, help="At most so many a second.")] = 100.0,
    max_redrives: Annotated[
        int,
        typer.Option(min=1, help="With --all: leave those that were redriven so often already."),
    ] = 3,
) -> None:
    """Put dead letters back on their queue; each gets a new run.

    Those that come back to the dead letters again and again are left, unless they are named by id.
    """
    ids = _chosen(message_ids, every=every)
    selection = _selection(reason, job, error_type, since, until)
    looping = asyncio.run(
        _redrive(broker, queue, ids, selection, limit=limit, rate=rate, max_redrives=max_redrives)
    )
    typer.echo(f"{looping.redriven} redriven")
    if looping.left:
        typer.echo(
            f"{looping.left} left that were redriven {max_redrives} times or more: mend the cause, "
            "then name them by id, or raise --max-redrives",
            err=True,
        )


@dead.command()
def discard(
    message_ids: IdsArgument = None,
    *,
    broker: BrokerOption = "",
    queue: QueueOption = DEFAULT_QUEUE,
    reason: ReasonOption = "",
    job: JobOption = "",
    error_type: ErrorTypeOption = "",
    since: SinceOption = None,
    until: UntilOption = None,
    every: AllOption = False,
    limit: LimitOption = 1000,
) -> None:
    """Forget dead letters for good."""
    ids = _chosen(message_ids, every=every)
    selection = _selection(reason, job, error_type, since, until)
    discarded = asyncio.run(_discard(broker, queue, ids, selection, limit=limit))
    typer.echo(f"{discarded} discarded")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Redriven:
    """What became of a redrive: how many went, and how many looked like a loop."""

    redriven: int
    left: int


def _chosen(message_ids: list[str] | None, *, every: bool) -> Sequence[str]:
    """Take the ids; none at all must be meant."""
    if bool(message_ids) == every:
        raise typer.BadParameter("give ids, or --all")
    return message_ids or ()


def _selection(
    reason: str, job: str, error_type: str, since: datetime | None, until: datetime | None
) -> Selection:
    """Read the options; a time without a zone is in the machine's own."""
    return Selection(
        reason=reason or None,
        job_type=job or None,
        error_type=error_type or None,
        since=since.astimezone() if since else None,
        until=until.astimezone() if until else None,
    )


async def _list(broker: str, queue: str, selection: Selection, limit: int) -> Sequence[DeadLetter]:
    async with open_session(broker) as session:
        found = DeadLetters(session, queue).list(selection, limit=limit)
        return [letter async for letter in found]


async def _find(broker: str, queue: str, message_id: str) -> DeadLetter:
    async with open_session(broker) as session:
        return await DeadLetters(session, queue).find(message_id)


async def _redrive(
    broker: str,
    queue: str,
    ids: Sequence[str],
    selection: Selection,
    *,
    limit: int,
    rate: float,
    max_redrives: int,
) -> _Redriven:
    async with open_session(broker) as session:
        letters = DeadLetters(session, queue)
        if ids:
            # Whoever names a letter has looked at it.
            chosen = await _select(letters, ids, selection, limit)
            return _Redriven(redriven=len(await letters.redrive(chosen, per_second=rate)), left=0)
        fresh, left = list[DeadLetter](), 0
        async for letter in letters.list(selection):
            if letter.generation >= max_redrives:
                left += 1
            elif len(fresh) < limit:
                fresh.append(letter)
        redriven = await letters.redrive(fresh, per_second=rate)
    return _Redriven(redriven=len(redriven), left=left)


async def _discard(
    broker: str, queue: str, ids: Sequence[str], selection: Selection, *, limit: int
) -> int:
    async with open_session(broker) as session:
        letters = DeadLetters(session, queue)
        return len(await letters.discard(await _select(letters, ids, selection, limit)))


async def _select(
    letters: DeadLetters, ids: Sequence[str], selection: Selection, limit: int
) -> Sequence[DeadLetter]:
    if ids:
        return [await letters.find(message_id) for message_id in ids]
    return [letter async for letter in letters.list(selection, limit=limit)]


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
