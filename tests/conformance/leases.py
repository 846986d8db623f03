"""Leases: what becomes of messages whose holder dies, dawdles, or comes too late."""

import time
from datetime import timedelta

import pytest

from blocks.broker import Broker, Session
from blocks.capabilities import Order
from blocks.errors import LeaseLostError
from blocks.message import Dead, Delivery, Done, Message, Outcome, Release, Retry
from tests.conformance.fixtures import SHORT_LEASE_SECONDS, BrokerFixtures
from tests.conformance.holder import holder
from tests.conformance.moves import AT_ONCE, ms, publish, settle, take, wait_for_depth
from tests.waiting import eventually


class LeaseConformance(BrokerFixtures):
    """Held by one at a time, and never for ever."""

    async def test_messages_of_a_killed_consumer_come_again_soon_and_count(
        self, session: Session, hasty: Broker, queue: str, broker: Broker
    ):
        ids = await publish(session, queue, *[Message(body=b"held") for _ in range(5)])
        async with holder(hasty, queue, 5) as held:
            assert sorted(held) == sorted(ids)
        died = time.monotonic()
        async with hasty.connect() as heir:
            inherited = await take(heir, queue, 5)
            assert time.monotonic() - died < SHORT_LEASE_SECONDS + 1.5
            assert sorted(one.id for one in inherited) == sorted(ids)
            if broker.capabilities.counts_deliveries:
                assert {one.deliveries for one in inherited} == {2}
            await settle(heir, Done(), *inherited)

    @pytest.mark.capability("counts_deliveries")
    async def test_the_delivery_count_survives_retries_kills_and_releases(
        self, session: Session, hasty: Broker, queue: str, broker: Broker
    ):
        [published] = await publish(session, queue, Message(body=b"poison"))
        await settle(session, Retry(AT_ONCE), *await take(session, queue, 1))
        async with holder(hasty, queue, 1) as held:
            assert held == [published]
        async with hasty.connect() as heir:
            [third] = await take(heir, queue, 1)
            await settle(heir, Release(), third)
            [again] = await take(heir, queue, 1)
            await settle(heir, Retry(ms(1) if broker.capabilities.delay else AT_ONCE), again)
            [fourth] = await take(heir, queue, 1)
        assert {third.id, again.id, fourth.id} == {published}
        if broker.capabilities.counts_deliveries:
            assert [third.deliveries, again.deliveries, fourth.deliveries] == [3, 3, 4]

    async def test_what_is_renewed_is_held_for_many_leases(
        self, session: Session, hasty: Broker, queue: str
    ):
        await publish(session, queue, *[Message(body=b"long work") for _ in range(3)])
        async with hasty.connect() as worker:
            held = await take(worker, queue, 3)
            end = time.monotonic() + 3 * SHORT_LEASE_SECONDS
            while time.monotonic() < end:
                renewed = await worker.renew(held)
                assert [one.id for one in renewed] == [one.id for one in held]
                assert not await session.receive(queue, max_messages=10, wait=ms(250))
            await settle(worker, Done(), *held)
        await wait_for_depth(session, queue, (0, 0, 0, 0))

    async def test_a_verdict_after_the_lease_was_lost_is_refused_and_harms_nobody(
        self, session: Session, hasty: Broker, queue: str
    ):
        await publish(session, queue, *[Message(body=b"slow work") for _ in range(4)])
        async with hasty.connect() as slow:
            lost = await take(slow, queue, 4)
            held = {one.id: one for one in await take(session, queue, 4)}
            verdicts = [Done(), Retry(AT_ONCE), Release(), Dead(reason="failed", error="late")]
            outcomes = [Outcome(one, v) for one, v in zip(lost, verdicts, strict=True)]
            for settled in await slow.settle(outcomes):
                assert isinstance(settled.error, LeaseLostError)
            assert not await slow.receive(queue, max_messages=10, wait=ms(300))
            assert len(await session.renew(list(held.values()))) == 4
            await settle(session, Done(), *held.values())
            [too_late] = await slow.settle([Outcome(lost[0], Done())])
            assert isinstance(too_late.error, LeaseLostError)
        await wait_for_depth(session, queue, (0, 0, 0, 0))

    async def test_a_session_that_ends_does_not_give_back_what_it_has_lost(
        self, session: Session, hasty: Broker, queue: str
    ):
        await publish(session, queue, Message(body=b"slow work"))
        async with hasty.connect() as slow:
            await take(slow, queue, 1)
            held = await take(session, queue, 1)
        assert not await session.receive(queue, max_messages=1, wait=ms(300))
        await settle(session, Done(), *held)

    async def test_renewing_returns_only_what_is_still_held(
        self, session: Session, hasty: Broker, queue: str
    ):
        await publish(session, queue, *[Message(body=b"") for _ in range(3)])
        async with hasty.connect() as worker:
            kept, done, lost = await take(worker, queue, 3)
            await settle(worker, Done(), done)
            taken: list[Delivery] = []
            while not taken:
                assert [one.id for one in await worker.renew([kept])] == [kept.id]
                taken += await session.receive(queue, max_messages=3, wait=ms(200))
            assert [one.id for one in taken] == [lost.id]
            renewed = await worker.renew([kept, done, lost])
            assert [one.id for one in renewed] == [kept.id]
            await settle(worker, Done(), *renewed)

    async def test_messages_whose_lease_has_ended_come_before_waiting_ones(
        self, session: Session, hasty: Broker, queue: str, broker: Broker
    ):
        [first] = await publish(session, queue, Message(body=b"first"))
        async with hasty.connect() as slow:
            await take(slow, queue, 1)
            end = time.monotonic() + SHORT_LEASE_SECONDS + 0.2
            await publish(session, queue, *[Message(body=b"fresh") for _ in range(3)])
            await eventually(lambda: time.monotonic() > end, description="the lease to end")
            if broker.capabilities.order in (Order.NONE, Order.KEY):
                # Nothing comes before anything else here, where it has no key in common with it.
                taken = await take(session, queue, 4, within=timedelta(seconds=2))
                assert first in {one.id for one in taken}
                return
            [expired] = await take(session, queue, 1, within=timedelta(seconds=2))
            assert expired.id == first
