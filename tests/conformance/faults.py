"""Faults: a server that is killed and comes back, nobody at the address, a log-in refused."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from blocks.broker import Broker, Session
from blocks.errors import BrokerUnavailableError
from blocks.message import Delivery, Done, Message, Outcome
from tests.conformance.fixtures import BrokerFixtures, Refusal, ServerHandle
from tests.conformance.moves import ms, take, wait_for_depth
from tests.waiting import eventually


@dataclass
class Traffic:
    """A publisher and a consumer that go on through a fault, and what they were told."""

    session: Session
    queue: str
    accepted: set[str] = field(default_factory=set[str])
    arrived: set[str] = field(default_factory=set[str])
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    #: The publisher has heard of its last message.
    all_published: bool = False

    async def publish(self) -> None:
        """Publish one after another, and note what was accepted."""
        while not self.stop.is_set():
            try:
                [outcome] = await self.session.publish(self.queue, [Message(body=b"x")])
            except BrokerUnavailableError:
                await asyncio.sleep(0.02)
                continue
            if outcome.id is not None:
                self.accepted.add(outcome.id)
            else:
                assert isinstance(outcome.error, BrokerUnavailableError)
        self.all_published = True

    async def consume(self, session: Session) -> None:
        """Take and settle until everything accepted has arrived."""
        while not (self.all_published and self.accepted <= self.arrived):
            try:
                held = await session.receive(self.queue, max_messages=10, wait=ms(100))
                self.arrived |= {one.id for one in held}
                await session.settle([Outcome(one, Done()) for one in held])
            except BrokerUnavailableError:
                await asyncio.sleep(0.02)


class FaultConformance(BrokerFixtures):
    """What may go wrong, and what is still so afterwards."""

    async def test_sessions_outlive_a_killed_server_and_nothing_accepted_is_lost(
        self, session: Session, hasty: Broker, queue: str, server: ServerHandle
    ):
        traffic = Traffic(session, queue)

        def enough_was_accepted() -> bool:
            return len(traffic.accepted) >= goal

        async with (
            hasty.connect() as consumer,
            asyncio.timeout(90),
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(traffic.publish())
            tasks.create_task(traffic.consume(consumer))
            goal = 20
            await eventually(enough_was_accepted, description="20 messages")
            await server.kill()
            await asyncio.wait_for(server.start(), timeout=60)
            goal = len(traffic.accepted) + 20
            await eventually(enough_was_accepted, description="20 more", timeout=60)
            traffic.stop.set()
        assert traffic.accepted <= traffic.arrived

    async def test_what_was_held_when_the_server_was_killed_can_still_be_settled_or_comes_again(
        self, session: Session, hasty: Broker, queue: str, server: ServerHandle
    ):
        await session.publish(queue, [Message(body=b"held")])
        async with hasty.connect() as worker:
            [held] = await take(worker, queue, 1)
            await server.kill()
            await asyncio.wait_for(server.start(), timeout=60)
            gone: list[Delivery] = [held]

            async def settled() -> bool:
                try:
                    [outcome] = await worker.settle([Outcome(gone[-1], Done())])
                    if outcome.error is not None:
                        gone.extend(await take(worker, queue, 1))
                except BrokerUnavailableError:
                    return False
                return outcome.error is None

            await eventually(settled, description="the message to be settled", timeout=60)
        assert {one.id for one in gone} == {held.id}
        await wait_for_depth(session, queue, (0, 0, 0, 0))

    @pytest.mark.capability("networked")
    async def test_wrong_credentials_are_refused_at_once(self, wrong_credentials: Refusal):
        await self._refuses_at_once(wrong_credentials)

    async def test_an_address_where_nobody_answers_is_told_at_once(self, unreachable: Refusal):
        await self._refuses_at_once(unreachable)

    async def _refuses_at_once(self, refusal: Refusal) -> None:
        begin = time.monotonic()
        with pytest.raises(refusal.error) as told:
            async with refusal.broker.connect() as session:
                await session.declare("conformance")
        assert timedelta(seconds=time.monotonic() - begin) < timedelta(seconds=3)
        assert type(told.value) is refusal.error
        assert refusal.says in str(told.value)
        assert refusal.broker.address in str(told.value)
