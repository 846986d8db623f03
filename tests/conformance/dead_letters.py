"""Dead letters: everything a person needs to judge them, redriving, discarding."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from blocks.broker import Broker, Session
from blocks.errors import UnsupportedError
from blocks.message import Dead, DeadLetter, Message, Retry
from tests.conformance.fixtures import BrokerFixtures
from tests.conformance.moves import AT_ONCE, ms, publish, settle, take, wait_for_depth

WHY = Dead(reason="schema", error="to: not an address", error_type="PayloadError", run_id="run-7")


async def browse(session: Session, queue: str) -> list[DeadLetter]:
    """All dead letters of the queue."""
    return [letter async for letter in session.browse_dead(queue)]


async def bury(session: Session, queue: str, bodies: Sequence[bytes]) -> list[DeadLetter]:
    """Publish, take and declare dead, one after another."""
    for body in bodies:
        await publish(session, queue, Message(body=body))
        await settle(session, WHY, *await take(session, queue, 1))
    letters = await browse(session, queue)
    assert [letter.body for letter in letters] == list(bodies)
    return letters


async def refused_for_want_of_dead_letters(session: Session, queue: str, broker: Broker) -> bool:
    """Where the provider has no dead letters, assert that it says so."""
    if broker.capabilities.dead_letters:
        return False
    with pytest.raises(UnsupportedError):
        await browse(session, queue)
    with pytest.raises(UnsupportedError):
        await session.settle_dead(queue, {"any": None})
    return True


@pytest.mark.capability("dead_letters")
class DeadLetterConformance(BrokerFixtures):
    """What is given up is kept, with the reason."""

    async def test_a_dead_letter_shows_the_message_and_the_reason(
        self, session: Session, queue: str, broker: Broker
    ):
        if await refused_for_want_of_dead_letters(session, queue, broker):
            return
        priority = 2 if broker.capabilities.priority_levels > 1 else 4
        headers = {"content-type": "application/json", "name": "Zoë"}
        message = Message(
            body=b"\x00\xff", headers=headers, key="k", priority=priority, generation=3
        )
        [published] = await publish(session, queue, message)
        await settle(session, Retry(AT_ONCE), *await take(session, queue, 1))
        [delivery] = await take(session, queue, 1)
        await settle(session, WHY, delivery)
        [letter] = await browse(session, queue)
        assert (letter.id, letter.body, dict(letter.headers)) == (published, b"\x00\xff", headers)
        assert (letter.key, letter.priority, letter.generation) == ("k", priority, 3)
        assert (letter.reason, letter.error) == (WHY.reason, WHY.error)
        assert (letter.error_type, letter.run_id) == (WHY.error_type, WHY.run_id)
        assert (letter.provider, letter.queue) == (broker.get_block_type_slug(), queue)
        assert letter.deliveries == 2
        assert letter.published_at == delivery.published_at
        assert letter.published_at <= letter.died_at
        assert abs(datetime.now(UTC) - letter.died_at) < timedelta(minutes=1)

    async def test_browsing_goes_oldest_first_and_leaves_everything(
        self, session: Session, queue: str, broker: Broker
    ):
        if await refused_for_want_of_dead_letters(session, queue, broker):
            return
        letters = await bury(session, queue, [b"1", b"2", b"3"])
        assert await browse(session, queue) == letters
        assert not await session.receive(queue, max_messages=10, wait=ms(200))
        await wait_for_depth(session, queue, (0, 0, 0, 3))

    async def test_many_dead_letters_are_all_shown_once(
        self, session: Session, queue: str, broker: Broker
    ):
        if await refused_for_want_of_dead_letters(session, queue, broker):
            return
        ids = await publish(session, queue, *[Message(body=b"") for _ in range(230)])
        await settle(session, WHY, *await take(session, queue, 230))
        assert sorted(letter.id for letter in await browse(session, queue)) == sorted(ids)

    async def test_who_stops_browsing_hides_nothing_from_the_next(
        self, session: Session, queue: str, broker: Broker
    ):
        if await refused_for_want_of_dead_letters(session, queue, broker):
            return
        await bury(session, queue, [b"a", b"b", b"c"])
        async with broker.connect() as other:
            walk = other.browse_dead(queue)
            first = await anext(walk)
        assert first.body == b"a"
        assert [letter.body for letter in await browse(session, queue)] == [b"a", b"b", b"c"]

    async def test_a_redriven_letter_keeps_its_id_and_takes_the_new_generation(
        self, session: Session, queue: str, broker: Broker
    ):
        if await refused_for_want_of_dead_letters(session, queue, broker):
            return
        [letter, _] = await bury(session, queue, [b"back", b"stays"])
        again = Message(
            body=letter.body, headers={"redriven": "yes"}, id=letter.id, generation=1, deliveries=5
        )
        assert list(await session.settle_dead(queue, {letter.handle: again})) == [letter.handle]
        [delivery] = await take(session, queue, 1)
        assert (delivery.id, delivery.body) == (letter.id, b"back")
        assert (delivery.generation, delivery.deliveries) == (1, 6)
        assert dict(delivery.headers) == {"redriven": "yes"}
        assert [other.body for other in await browse(session, queue)] == [b"stays"]

    async def test_a_discarded_letter_is_gone_for_good(
        self, session: Session, queue: str, broker: Broker
    ):
        if await refused_for_want_of_dead_letters(session, queue, broker):
            return
        [letter, other] = await bury(session, queue, [b"gone", b"stays"])
        assert list(await session.settle_dead(queue, {letter.handle: None})) == [letter.handle]
        assert await browse(session, queue) == [other]
        await wait_for_depth(session, queue, (0, 0, 0, 1))

    async def test_handles_that_are_not_there_are_ignored(
        self, session: Session, queue: str, broker: Broker
    ):
        if await refused_for_want_of_dead_letters(session, queue, broker):
            return
        [letter] = await bury(session, queue, [b"once"])
        fates = {letter.handle: Message(body=b"once", id=letter.id), "nobody": Message(body=b"no")}
        assert list(await session.settle_dead(queue, fates)) == [letter.handle]
        assert list(await session.settle_dead(queue, fates)) == []
        [delivery] = await take(session, queue, 1)
        assert delivery.id == letter.id
        await wait_for_depth(session, queue, (0, 1, 0, 0))
