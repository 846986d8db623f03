"""Dead letters as people handle them: listed, found, redriven, discarded."""

import json
import time
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from blocks.broker import Session
from blocks.embedded_broker import EmbeddedBroker
from blocks.message import Dead, DeadLetter, Delivery, Done, Message, Outcome, Retry
from noa_flows.bridge.dead_letters import DeadLetters, Selection, event_id
from noa_flows.bridge.intake import INTERRUPTED_HEADER
from noa_flows.errors import NotFoundError

QUEUE = "jobs"


@pytest.fixture
async def session(tmp_path: Path) -> AsyncGenerator[Session]:
    async with EmbeddedBroker(path=tmp_path / "queue.db").connect() as session:
        await session.declare(QUEUE)
        yield session


@pytest.fixture
def letters(session: Session) -> DeadLetters:
    return DeadLetters(session, QUEUE)


async def take(session: Session) -> Delivery:
    (delivery,) = await session.receive(QUEUE, max_messages=1, wait=timedelta(seconds=5))
    return delivery


async def bury(
    session: Session, body: bytes, *, reason: str = "schema", error_type: str = "", **message: Any
) -> DeadLetter:
    """Publish a message, let it fail once, and declare it dead."""
    await session.publish(QUEUE, [Message(body=body, **message)])
    await session.settle([Outcome(await take(session), Retry(timedelta(0)))])
    delivery = await take(session)
    await session.settle(
        [Outcome(delivery, Dead(reason=reason, error="why", error_type=error_type))]
    )
    (letter,) = [one async for one in session.browse_dead(QUEUE) if one.id == delivery.id]
    return letter


def event(message_id: str, **attributes: Any) -> bytes:
    return json.dumps({"type": "noop", "id": message_id, "data": {}, **attributes}).encode()


async def listed(
    letters: DeadLetters, selection: Selection | None = None, *, limit: int | None = None
) -> list[str]:
    found = letters.list(selection, limit=limit) if selection else letters.list(limit=limit)
    return [event_id(letter) async for letter in found]


async def test_they_are_listed_oldest_first_by_reason_and_up_to_a_limit(
    session: Session, letters: DeadLetters
) -> None:
    for name, reason in [("a", "schema"), ("b", "expired"), ("c", "schema"), ("d", "schema")]:
        await bury(session, event(name), reason=reason)
    assert await listed(letters) == ["a", "b", "c", "d"]
    assert await listed(letters, Selection(reason="schema")) == ["a", "c", "d"]
    assert await listed(letters, Selection(reason="schema"), limit=2) == ["a", "c"]
    assert await listed(letters, limit=3) == ["a", "b", "c"]
    assert await listed(letters, limit=0) == []
    assert await listed(letters, Selection(reason="failed")) == []


async def test_one_is_found_by_the_id_of_its_event_of_its_message_and_by_its_handle(
    session: Session, letters: DeadLetters
) -> None:
    await bury(session, event("other"))
    letter = await bury(session, event("order-17"))
    for name in ("order-17", letter.id, letter.handle):
        assert await letters.find(name) == letter


async def test_one_that_holds_no_event_is_found_by_the_id_of_its_message(
    session: Session, letters: DeadLetters
) -> None:
    letter = await bury(session, b"\xff")
    assert event_id(letter) == letter.id
    assert await letters.find(letter.id) == letter


async def test_the_id_of_an_event_in_binary_mode_stands_in_the_headers(session: Session) -> None:
    headers = {"ce_specversion": "1.0", "ce_id": "b-1", "ce_source": "/t", "ce_type": "noop"}
    assert event_id(await bury(session, b"{}", headers=headers)) == "b-1"


async def test_the_id_of_an_event_is_read_however_deep_its_payload_is(session: Session) -> None:
    deep = b'{"type": "noop", "id": "deep", "data": {"echo": ' + b"[" * 900 + b"]" * 900 + b"}}"
    assert event_id(await bury(session, deep)) == "deep"


async def test_one_that_is_not_there_is_named_with_where_to_look(letters: DeadLetters) -> None:
    with pytest.raises(NotFoundError, match=r"no dead letter 'x' in the queue 'jobs'.*dead list"):
        await letters.find("x")


async def test_redriving_raises_the_generation_and_starts_the_count_anew(
    session: Session, letters: DeadLetters
) -> None:
    headers = {"content-type": "application/json", "x-origin": "shop"}
    letter = await bury(session, event("a"), headers=headers, key="k", priority=2)
    assert (letter.deliveries, letter.generation) == (2, 0)
    assert await letters.redrive([letter]) == [letter]
    delivery = await take(session)
    assert (delivery.deliveries, delivery.generation) == (1, 1)
    assert (delivery.id, delivery.body, dict(delivery.headers)) == (letter.id, event("a"), headers)
    assert (delivery.key, delivery.priority) == ("k", 2)
    await session.settle([Outcome(delivery, Dead(reason="failed", error="again"))])
    (again,) = [one async for one in letters.list()]
    assert (again.reason, again.generation) == ("failed", 1)
    await letters.redrive([again])
    assert (await take(session)).generation == 2


async def test_a_redriven_message_is_not_refused_as_interrupted_again(
    session: Session, letters: DeadLetters
) -> None:
    letter = await bury(session, event("a"), headers={INTERRUPTED_HEADER: "run-1", "x-origin": "s"})
    await letters.redrive([letter])
    assert dict((await take(session)).headers) == {"x-origin": "s"}


async def test_redriving_twice_publishes_once(session: Session, letters: DeadLetters) -> None:
    gone = await bury(session, event("a"))
    there = await bury(session, event("b"))
    assert await letters.redrive([gone]) == [gone]
    assert await letters.redrive([gone, there]) == [there]
    taken = [await take(session), await take(session)]
    assert sorted(one.id for one in taken) == sorted([gone.id, there.id])
    await session.settle([Outcome(one, Done()) for one in taken])
    depth = await session.depth(QUEUE)
    assert (depth.ready, depth.in_flight, depth.dead) == (0, 0, 0)


async def test_they_are_selected_by_job_error_time_and_how_often_they_were_redriven(
    session: Session, letters: DeadLetters
) -> None:
    first = await bury(session, event("a"), error_type="PayloadError")
    await bury(session, event("b", type="noa.job.report"), error_type="PrefectApiError")
    last = await bury(session, b"\xff", error_type="EnvelopeError", generation=3)
    assert await listed(letters, Selection(job_type="report")) == ["b"]
    assert await listed(letters, Selection(job_type="noop")) == ["a"]
    assert await listed(letters, Selection(error_type="PayloadError")) == ["a"]
    assert await listed(letters, Selection(max_redrives=3)) == ["a", "b"]
    assert await listed(letters, Selection(max_redrives=4)) == ["a", "b", last.id]
    assert await listed(letters, Selection(since=last.died_at)) == [last.id]
    assert await listed(letters, Selection(until=last.died_at, job_type="noop")) == ["a"]
    assert await listed(letters, Selection(until=first.died_at)) == []


async def test_a_rate_is_kept_while_they_are_redriven(
    session: Session, letters: DeadLetters
) -> None:
    await session.publish(QUEUE, [Message(body=event(f"e{n}")) for n in range(10)])
    taken = await session.receive(QUEUE, max_messages=10, wait=timedelta(seconds=5))
    await session.settle([Outcome(one, Dead(reason="failed", error="why")) for one in taken])
    selected = [one async for one in letters.list()]
    began = time.monotonic()
    assert await letters.redrive(selected, per_second=20) == selected
    # Two at a time, with a tenth of a second between: a pause is never shorter than it was meant.
    assert time.monotonic() - began >= 0.4
    assert len(await session.receive(QUEUE, max_messages=20, wait=timedelta(seconds=5))) == 10


async def test_redriving_or_discarding_nothing_does_nothing(letters: DeadLetters) -> None:
    assert await letters.redrive([]) == []
    assert await letters.discard([]) == []


async def test_the_discarded_are_gone_and_the_others_stay(
    session: Session, letters: DeadLetters
) -> None:
    first, second = await bury(session, event("a")), await bury(session, event("b"))
    assert await letters.discard([first]) == [first]
    assert await letters.discard([first]) == []
    assert await listed(letters) == ["b"]
    assert await letters.redrive([first, second]) == [second]
