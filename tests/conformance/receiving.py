"""Receiving and settling: batches, bounded waits, order, verdicts, sharing, closing."""

import asyncio
import time
from datetime import timedelta

import pytest

from blocks.broker import Broker, Session
from blocks.capabilities import Order
from blocks.errors import UnsupportedError
from blocks.message import Band, Dead, Delivery, Done, Message, Outcome, Release, Retry
from tests.conformance.fixtures import BrokerFixtures
from tests.conformance.holder import holder
from tests.conformance.moves import AT_ONCE, ms, publish, settle, take, wait_for_depth


def numbered(count: int) -> list[Message]:
    """Messages that tell their place."""
    return [Message(body=str(number).encode()) for number in range(count)]


async def share(session: Session, queue: str, seen: list[Delivery], total: int) -> None:
    """Take and settle beside others until all together have seen `total`."""
    while len(seen) < total:
        deliveries = await session.receive(queue, max_messages=20, wait=ms(100))
        seen += deliveries
        await settle(session, Done(), *deliveries)


async def refused_for_want_of_selection(session: Session, queue: str, broker: Broker) -> bool:
    """Where receivers take all bands or none, see that anything else is refused."""
    if broker.capabilities.selects_band:
        return False
    with pytest.raises(UnsupportedError):
        await session.receive(queue, max_messages=1, wait=AT_ONCE, lowest=Band.HIGH)
    return True


class ReceivingConformance(BrokerFixtures):
    """What a consumer relies on."""

    async def test_a_batch_never_holds_more_than_was_asked_for(self, session: Session, queue: str):
        await publish(session, queue, *numbered(25))
        first = await session.receive(queue, max_messages=10, wait=ms(2_000))
        assert 0 < len(first) <= 10
        rest = await take(session, queue, 25 - len(first))
        assert len({one.id for one in [*first, *rest]}) == 25

    async def test_waiting_for_nothing_ends_when_the_wait_ends(self, session: Session, queue: str):
        begin = time.monotonic()
        assert list(await session.receive(queue, max_messages=10, wait=ms(400))) == []
        assert 0.35 <= time.monotonic() - begin < 2.0
        begin = time.monotonic()
        assert list(await session.receive(queue, max_messages=10, wait=AT_ONCE)) == []
        assert time.monotonic() - begin < 2.0

    @pytest.mark.parametrize("publisher", ["its own session", "another session"])
    async def test_waiting_ends_as_soon_as_something_arrives(
        self, session: Session, patient: Broker, queue: str, publisher: str
    ):
        async with patient.connect() as other:
            source = session if publisher == "its own session" else other
            wait = timedelta(seconds=10)
            waiting = asyncio.create_task(session.receive(queue, max_messages=10, wait=wait))
            await asyncio.wait([waiting], timeout=0.3)
            assert not waiting.done()
            begin = time.monotonic()
            [published] = await publish(source, queue, Message(body=b"news"))
            [delivery] = await waiting
            assert delivery.id == published
            assert time.monotonic() - begin < 2.0

    @pytest.mark.capability("order")
    async def test_messages_come_in_the_order_they_were_published_in(
        self, session: Session, queue: str, broker: Broker
    ):
        ids = await publish(session, queue, *numbered(20))
        ids += await publish(session, queue, *numbered(20))
        arrived = [one.id for size in (1, 4, 35) for one in await take(session, queue, size)]
        if broker.capabilities.order is Order.QUEUE:
            assert arrived == ids
        assert sorted(arrived) == sorted(ids)

    @pytest.mark.capability("order")
    async def test_messages_of_a_key_come_in_the_order_they_were_published_in(
        self, session: Session, queue: str, broker: Broker
    ):
        keys = ("a", "b", "c")
        await publish(
            session, queue, *(Message(body=b"%02d" % n, key=keys[n % 3]) for n in range(60))
        )
        arrived: dict[str | None, list[bytes]] = {key: [] for key in keys}
        for _ in range(20):
            # Where a key's next message waits for the settling of the last, three come at once.
            taken = await take(session, queue, 3)
            for one in taken:
                arrived[one.key].append(one.body)
            await settle(session, Done(), *taken)
        assert sum(map(len, arrived.values())) == 60
        if broker.capabilities.order is not Order.NONE:
            assert list(arrived.values()) == [sorted(bodies) for bodies in arrived.values()]

    @pytest.mark.capability("selects_band")
    async def test_lower_bands_stay_in_the_queue_when_they_are_not_wanted(
        self, session: Session, queue: str, broker: Broker
    ):
        if await refused_for_want_of_selection(session, queue, broker):
            return
        await publish(session, queue, *(Message(body=b"", priority=one) for one in range(10)))
        await session.settle(
            [Outcome(one, Release()) for one in await take(session, queue, 10)],
        )
        for lowest, priorities in (
            (Band.HIGH, [0, 1, 2]),
            (Band.NORMAL, [3, 4, 5, 6]),
            (Band.LOW, [7, 8, 9]),
        ):
            arrived = list[Delivery]()
            while more := await session.receive(
                queue, max_messages=10, wait=ms(200), lowest=lowest
            ):
                arrived += more
            assert [one.priority for one in arrived] == priorities
            await settle(session, Done(), *arrived)

    async def test_what_died_holding_a_lower_band_is_left_when_it_is_not_wanted(
        self, session: Session, hasty: Broker, queue: str, broker: Broker
    ):
        if await refused_for_want_of_selection(session, queue, broker):
            return
        await publish(session, queue, Message(body=b"low", priority=9))
        async with holder(hasty, queue, 1), hasty.connect() as heir:
            begin = time.monotonic()
            while time.monotonic() < begin + hasty.lease_seconds + 1.0:
                assert not await heir.receive(
                    queue, max_messages=1, wait=ms(200), lowest=Band.NORMAL
                )
            [low] = await take(heir, queue, 1)
            assert (low.body, low.deliveries) == (b"low", 2)

    async def test_a_wanted_band_ends_the_waiting_while_others_stand_ready(
        self, session: Session, patient: Broker, queue: str, broker: Broker
    ):
        if await refused_for_want_of_selection(session, queue, broker):
            return
        low, high = Message(body=b"", priority=9), Message(body=b"", priority=0)
        await publish(session, queue, low)
        async with patient.connect() as other:
            waiting = asyncio.create_task(
                other.receive(queue, max_messages=5, wait=ms(10_000), lowest=Band.HIGH)
            )
            await asyncio.wait([waiting], timeout=0.5)
            assert not waiting.done()
            begin = time.monotonic()
            await publish(session, queue, high)
            assert [one.priority for one in await waiting] == [0]
            assert time.monotonic() - begin < 2.0

    async def test_what_is_done_is_gone(self, session: Session, queue: str):
        await publish(session, queue, *numbered(3))
        await settle(session, Done(), *await take(session, queue, 3))
        await wait_for_depth(session, queue, (0, 0, 0, 0))
        assert (await session.depth(queue)).oldest_age is None

    async def test_a_retry_comes_again_at_once_and_counts(self, session: Session, queue: str):
        [published] = await publish(session, queue, Message(body=b"again"))
        await settle(session, Retry(AT_ONCE), *await take(session, queue, 1))
        [second] = await take(session, queue, 1)
        assert (second.id, second.deliveries, second.body) == (published, 2, b"again")

    @pytest.mark.parametrize(
        ("verdict", "count"),
        [(Retry(ms(900)), 2), (Release(ms(900)), 1)],
        ids=["retry", "release"],
    )
    @pytest.mark.capability("delay")
    async def test_what_goes_back_with_a_delay_does_not_come_before_its_time(
        self, session: Session, queue: str, broker: Broker, verdict: Retry | Release, count: int
    ):
        [published] = await publish(session, queue, Message(body=b"later"))
        [first] = await take(session, queue, 1)
        begin = time.monotonic()
        if not broker.capabilities.delay and isinstance(verdict, Retry):
            [settled] = await session.settle([Outcome(first, verdict)])
            assert isinstance(settled.error, UnsupportedError)
            return
        await settle(session, verdict, first)
        if broker.capabilities.delay:
            await wait_for_depth(session, queue, (0, 0, 1, 0))
        [second] = await take(session, queue, 1)
        assert (second.id, second.deliveries) == (published, count)
        if broker.capabilities.delay:
            assert 0.9 <= time.monotonic() - begin < 4.0

    async def test_a_release_comes_again_at_once_and_does_not_count(
        self, session: Session, queue: str
    ):
        [published] = await publish(session, queue, Message(body=b"untouched"))
        await settle(session, Release(), *await take(session, queue, 1))
        [second] = await take(session, queue, 1)
        assert (second.id, second.deliveries, second.body) == (published, 1, b"untouched")

    async def test_several_verdicts_in_one_call_are_carried_out_each(
        self, session: Session, queue: str, broker: Broker
    ):
        await publish(session, queue, *numbered(4))
        done, retried, released, failed = await take(session, queue, 4)
        outcomes = [
            Outcome(done, Done()),
            Outcome(retried, Retry(AT_ONCE)),
            Outcome(released, Release()),
            Outcome(failed, Dead(reason="failed", error="broke")),
        ]
        settled = await session.settle(outcomes)
        assert [(one.delivery.id, one.error) for one in settled] == [
            (outcome.delivery.id, None) for outcome in outcomes
        ]
        counts = {one.id: one.deliveries for one in await take(session, queue, 2)}
        assert counts == {retried.id: 2, released.id: 1}
        if broker.capabilities.dead_letters:
            assert [letter.id async for letter in session.browse_dead(queue)] == [failed.id]

    @pytest.mark.capability("tells_age")
    async def test_depth_tells_ready_in_flight_dead_and_the_age_of_the_oldest(
        self, session: Session, queue: str, broker: Broker
    ):
        await publish(session, queue, *numbered(5))
        held = await take(session, queue, 3)
        await wait_for_depth(session, queue, (2, 3, 0, 0))
        age = (await session.depth(queue)).oldest_age
        if broker.capabilities.tells_age:
            assert age is not None
            assert timedelta(0) <= age < timedelta(seconds=15)
        else:
            assert age is None
        await settle(session, Dead(reason="failed", error="broke"), held[0])
        dead = 1 if broker.capabilities.dead_letters else 0
        await wait_for_depth(session, queue, (2, 2, 0, dead))

    @pytest.mark.capability("sees_all_in_flight")
    async def test_another_session_sees_what_is_in_flight_or_owns_that_it_does_not(
        self, session: Session, patient: Broker, queue: str, broker: Broker
    ):
        await publish(session, queue, *numbered(5))
        held = await take(session, queue, 3)
        async with patient.connect() as onlooker:
            await onlooker.declare(queue)
            if broker.capabilities.sees_all_in_flight:
                await wait_for_depth(onlooker, queue, (2, 3, 0, 0))
            else:
                assert (await onlooker.depth(queue)).in_flight == 0
        await settle(session, Done(), *held)

    async def test_settling_while_a_receive_waits_does_not_wait_for_it(
        self, session: Session, queue: str
    ):
        await publish(session, queue, *numbered(20))
        held = await take(session, queue, 20)
        wait = timedelta(seconds=10)
        waiting = asyncio.create_task(session.receive(queue, max_messages=1, wait=wait))
        begin = time.monotonic()
        await settle(session, Done(), *held)
        assert time.monotonic() - begin < 2.0
        [published] = await publish(session, queue, Message(body=b"next"))
        assert [one.id for one in await waiting] == [published]

    async def test_two_consumers_share_the_work_without_overlap(
        self, session: Session, patient: Broker, queue: str
    ):
        ids = await publish(session, queue, *numbered(400))
        async with patient.connect() as first, patient.connect() as second:
            mine = await take(first, queue, 20)
            yours = await take(second, queue, 20)
            await settle(first, Done(), *mine)
            await settle(second, Done(), *yours)
            seen = [*mine, *yours]
            await asyncio.gather(share(first, queue, seen, 400), share(second, queue, seen, 400))
        assert sorted(one.id for one in seen) == sorted(ids)

    async def test_a_thousand_messages_drained_by_three_consumers_come_once_each(
        self, session: Session, patient: Broker, queue: str
    ):
        seen: list[Delivery] = []
        async with patient.connect() as a, patient.connect() as b, patient.connect() as c:
            drains = [asyncio.create_task(share(one, queue, seen, 1_000)) for one in (a, b, c)]
            ids = [id_ for _ in range(10) for id_ in await publish(session, queue, *numbered(100))]
            await asyncio.gather(*drains)
        assert len(set(ids)) == 1_000
        assert sorted(one.id for one in seen) == sorted(ids)
        assert {one.deliveries for one in seen} == {1}
        await wait_for_depth(session, queue, (0, 0, 0, 0))

    async def test_a_session_that_ends_gives_back_what_it_holds_without_counting(
        self, session: Session, patient: Broker, queue: str
    ):
        ids = await publish(session, queue, *numbered(3))
        async with patient.connect() as leaving:
            held = await take(leaving, queue, 3)
            await settle(leaving, Done(), held[0])
        returned = await take(session, queue, 2, within=timedelta(seconds=3))
        assert {one.id for one in returned} == set(ids) - {held[0].id}
        assert {one.deliveries for one in returned} == {1}

    async def test_a_cancelled_consumer_gives_back_what_it_holds_without_counting(
        self, session: Session, patient: Broker, queue: str
    ):
        await publish(session, queue, *numbered(3))
        holding = asyncio.Event()

        async def consume() -> None:
            async with patient.connect() as leaving:
                await take(leaving, queue, 3)
                holding.set()
                await asyncio.Event().wait()

        consumer = asyncio.create_task(consume())
        await asyncio.wait_for(holding.wait(), timeout=10)
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        returned = await take(session, queue, 3, within=timedelta(seconds=3))
        assert {one.deliveries for one in returned} == {1}

    async def test_a_cancelled_receive_keeps_nothing_from_others(
        self, session: Session, hasty: Broker, queue: str
    ):
        async with hasty.connect() as fickle:
            for number in range(20):
                await publish(session, queue, *numbered(2))
                wait = timedelta(seconds=10)
                receiving = asyncio.create_task(fickle.receive(queue, max_messages=5, wait=wait))
                await asyncio.wait([receiving], timeout=number / 4_000)
                if not receiving.cancel():
                    await settle(fickle, Release(), *await receiving)
                await asyncio.wait([receiving])
            arrived = await take(session, queue, 40)
        assert len({one.id for one in arrived}) == 40
