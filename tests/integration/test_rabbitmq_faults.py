"""RabbitMQ that stalls, is cut off, killed, short of memory; and consumers that are killed."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest

from blocks.broker import Broker, Session
from blocks.errors import BrokerRefusedError, BrokerUnavailableError, UnroutableError
from blocks.message import Delivery, Done, Message, Outcome, Release, Retry
from blocks.rabbitmq_broker import RabbitMQBroker
from tests.conformance.holder import holder
from tests.servers.ports import free_port
from tests.servers.proxies.tcp_proxy import TcpProxy
from tests.servers.rabbitmq_server import RabbitMQServer
from tests.waiting import eventually

WAIT = timedelta(seconds=5)
SOON = timedelta(milliseconds=300)
AT_ONCE = timedelta(0)


class CountingProxy(TcpProxy):
    """A proxy that knows how often somebody has tried to connect."""

    attempts = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attempts += 1
        await super()._serve(reader, writer)


@pytest.fixture(scope="module")
def server() -> Iterator[RabbitMQServer]:
    with RabbitMQServer() as server:
        yield server


@pytest.fixture
def broker(server: RabbitMQServer) -> RabbitMQBroker:
    """One that loses patience fast, so that a test needn't have it."""
    broker = RabbitMQBroker.from_url(f"{server.url}?lease_seconds=1")
    return broker.model_copy(update={"timeout_seconds": 1.0, "heartbeat_seconds": 1})


@pytest.fixture
def queue() -> str:
    return f"orders-{uuid4().hex}"


@pytest.fixture
async def session(broker: RabbitMQBroker, queue: str) -> AsyncIterator[Session]:
    """A patient session, on which the queue is declared."""
    patient = broker.model_copy(update={"timeout_seconds": 10.0, "lease_seconds": 60.0})
    async with patient.connect() as session:
        await session.declare(queue)
        yield session


def behind(broker: RabbitMQBroker, *proxies: TcpProxy) -> RabbitMQBroker:
    """The same broker, by way of the proxies: each is a node of the cluster."""
    hosts = ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies)
    return broker.model_copy(update={"host": hosts})


async def consume(session: Session, queue: str, seen: Counter[str], total: int) -> None:
    """Take and settle through all faults until `total` different messages have been seen."""
    while len(seen) < total:
        try:
            held = await session.receive(queue, max_messages=10, wait=timedelta(milliseconds=200))
            seen.update(one.id for one in held)
            await session.settle([Outcome(one, Done()) for one in held])
        except BrokerUnavailableError:
            await asyncio.sleep(0.02)


async def take(session: Session, queue: str, count: int = 1) -> list[Delivery]:
    """Receive so many, whatever fails meanwhile."""
    taken: list[Delivery] = []

    async def enough() -> bool:
        taken.extend(
            await session.receive(queue, max_messages=count - len(taken), wait=timedelta(seconds=1))
        )
        return len(taken) == count

    await eventually(enough, description=f"{count} messages", timeout=20)
    return taken


async def test_a_stalled_server_hangs_nobody(
    server: RabbitMQServer, broker: RabbitMQBroker, session: Session, queue: str
):
    async with broker.connect() as impatient:
        await impatient.publish(queue, [Message(body=b"x")])
        server.stall()
        try:
            async with asyncio.timeout(4):
                with pytest.raises(BrokerUnavailableError, match="no answer for 1 s"):
                    await impatient.receive(queue, max_messages=1, wait=SOON)
            async with asyncio.timeout(4):
                with pytest.raises(BrokerUnavailableError):
                    await impatient.publish(queue, [Message(body=b"y")])
        finally:
            server.resume()
        assert await take(impatient, queue)


async def test_a_connection_that_hangs_is_noticed_and_replaced(
    server: RabbitMQServer, broker: RabbitMQBroker, session: Session, queue: str
):
    with TcpProxy(server.port) as proxy:
        async with behind(broker, proxy).connect() as worker:
            receiving = asyncio.create_task(worker.receive(queue, max_messages=1, wait=SOON))
            await asyncio.wait([receiving], timeout=0.1)
            proxy.stall()
            with pytest.raises(BrokerUnavailableError):
                await asyncio.wait_for(receiving, timeout=4)
            proxy.heal()
            await session.publish(queue, [Message(body=b"x")])
            assert await take(worker, queue)


async def test_what_a_stalled_consumer_holds_comes_to_another_when_its_heartbeats_are_missed(
    server: RabbitMQServer, broker: RabbitMQBroker, session: Session, queue: str
):
    # Its own leases are long, and can't be ended anyway by a process that stands still.
    lasting = broker.model_copy(update={"lease_seconds": 600.0})
    with TcpProxy(server.port) as proxy:
        await session.publish(queue, [Message(body=b"held")])
        async with behind(lasting, proxy).connect() as stalled:
            [held] = await take(stalled, queue)
            proxy.stall()
            [inherited] = await take(session, queue)
            assert (inherited.id, inherited.deliveries) == (held.id, 2)
            await session.settle([Outcome(inherited, Done())])


async def test_a_lease_ends_however_busy_the_event_loop_is(broker: RabbitMQBroker, queue: str):
    found: list[Delivery] = []

    async def inherit() -> None:
        async with broker.connect() as heir:
            found.extend(await take(heir, queue))

    async with broker.connect() as busy:
        await busy.declare(queue)
        await busy.publish(queue, [Message(body=b"held")])
        [held] = await take(busy, queue)
        other = threading.Thread(target=lambda: asyncio.run(inherit()))
        other.start()
        # The event loop of `busy` stands still here.
        other.join(timeout=20)
        [settled] = await busy.settle([Outcome(held, Done())])
        assert "no longer held" in str(settled.error)
    assert [(one.id, one.deliveries) for one in found] == [(held.id, 2)]


async def test_kills_stalls_and_cuts_together_lose_nothing(
    server: RabbitMQServer, broker: RabbitMQBroker, session: Session, queue: str
):
    outcomes = await session.publish(queue, [Message(body=b"x")] * 300)
    ids = {outcome.id for outcome in outcomes}
    seen: Counter[str] = Counter()
    with TcpProxy(server.port) as proxy:
        proxied = behind(broker, proxy)
        async with holder(proxied, queue, 40) as held, proxied.connect() as worker:
            assert set(held) <= ids
            working = asyncio.create_task(consume(worker, queue, seen, 300))
            for _ in range(3):
                proxy.cut()
                await asyncio.wait([working], timeout=0.05)
            server.stall()
            # Longer than a lease, and than heartbeats may be missed.
            await asyncio.wait([working], timeout=2.5)
            server.resume()
            await asyncio.to_thread(server.settle)
            server.kill()
            await asyncio.to_thread(server.start)
        # The holder is dead by now; its forty come to whoever is left.
        async with broker.connect() as heir:
            await asyncio.wait_for(consume(heir, queue, seen, 300), timeout=30)
        await asyncio.wait([working], timeout=10)
        working.cancel()
    assert set(seen) == ids


@pytest.mark.parametrize(("queue_type", "count"), [("quorum", 4), ("classic", 2)])
async def test_a_poison_message_is_counted_by_a_quorum_queue_and_not_by_a_classic_one(
    broker: RabbitMQBroker, queue: str, queue_type: str, count: int
):
    typed = broker.model_copy(update={"queue_type": queue_type})
    async with typed.connect() as session:
        await session.declare(queue)
        await session.publish(queue, [Message(body=b"poison")])
        [first] = await take(session, queue)
        await session.settle([Outcome(first, Retry(AT_ONCE))])
        for _ in range(2):
            async with holder(typed, queue, 1):
                pass
        [delivery] = await take(session, queue)
        assert (delivery.id, delivery.deliveries) == (first.id, count)


async def test_a_message_without_an_id_is_another_one_after_a_death_and_the_same_after_a_retry(
    server: RabbitMQServer, broker: RabbitMQBroker, session: Session, queue: str
):
    import pika

    with pika.BlockingConnection(pika.URLParameters(server.url)) as connection:
        connection.channel().basic_publish("", queue, b"anonymous")
    async with holder(broker, queue, 1) as [seen_by_the_dead]:
        pass
    [after_death] = await take(session, queue)
    assert (after_death.deliveries, after_death.body) == (2, b"anonymous")
    assert after_death.id != seen_by_the_dead
    await session.settle([Outcome(after_death, Retry(timedelta(milliseconds=50)))])
    [after_retry] = await take(session, queue)
    assert (after_retry.id, after_retry.deliveries) == (after_death.id, 3)
    await session.settle([Outcome(after_retry, Release())])
    [after_release] = await take(session, queue)
    assert (after_release.id, after_release.deliveries) == (after_death.id, 3)


async def test_who_repeats_a_publish_whose_confirm_was_lost_gives_the_same_id(
    server: RabbitMQServer, broker: RabbitMQBroker, session: Session, queue: str
):
    message = Message(body=b"once or twice", id="chosen")
    with TcpProxy(server.port) as proxy:
        async with behind(broker, proxy).connect() as publisher:
            await publisher.publish(queue, [Message(body=b"before", id="before")])
            proxy.stall()
            with pytest.raises(BrokerUnavailableError):
                await publisher.publish(queue, [message])
            proxy.heal()

            async def published() -> bool:
                return (await publisher.publish(queue, [message]))[0].id == "chosen"

            await eventually(published, description="the broker to confirm")
            ids = [one.id for one in await take(session, queue, 3)]
            assert ids == ["before", "chosen", "chosen"]


async def test_a_queue_that_is_deleted_under_a_waiting_consumer_is_told_and_made_again(
    server: RabbitMQServer, session: Session, queue: str
):
    waiting = asyncio.create_task(session.receive(queue, max_messages=1, wait=WAIT))
    await asyncio.wait([waiting], timeout=0.3)
    await asyncio.to_thread(server.control, "delete_queue", queue)
    with pytest.raises(BrokerUnavailableError, match="the queue was deleted"):
        await waiting
    assert not await session.receive(queue, max_messages=1, wait=AT_ONCE)
    await session.publish(queue, [Message(body=b"x")])
    assert await take(session, queue)


async def test_a_queue_that_is_deleted_between_two_calls_takes_nobody_elses_messages_with_it(
    server: RabbitMQServer, session: Session, queue: str
):
    other = f"{queue}-other"
    await session.declare(other)
    await session.publish(other, [Message(body=b"held")])
    held = await take(session, other)
    assert not await session.receive(queue, max_messages=1, wait=AT_ONCE)
    await asyncio.to_thread(server.control, "delete_queue", queue)
    [outcome] = await session.publish(queue, [Message(body=b"lost?")])
    assert isinstance(outcome.error, UnroutableError)
    assert await session.renew(held) == held

    async def declared_again() -> bool:
        await session.receive(queue, max_messages=1, wait=AT_ONCE)
        return (await session.publish(queue, [Message(body=b"x")]))[0].error is None

    await eventually(declared_again, description="the queue to be declared again")
    assert await take(session, queue)
    assert await session.renew(held) == held


async def test_what_comes_while_nobody_asks_is_given_back_uncounted(
    broker: RabbitMQBroker, session: Session, queue: str
):
    lasting = broker.model_copy(update={"lease_seconds": 60.0, "timeout_seconds": 10.0})
    async with lasting.connect() as paused:
        assert not await paused.receive(queue, max_messages=5, wait=SOON)
        await session.publish(queue, [Message(body=b"x")] * 3)
        taken = await take(session, queue, 3)
        assert {one.deliveries for one in taken} == {1}
        assert (await paused.depth(queue)).in_flight == 0


async def test_what_comes_between_two_calls_is_the_next_ones(session: Session, queue: str):
    assert not await session.receive(queue, max_messages=5, wait=SOON)
    ids = [one.id for one in await session.publish(queue, [Message(body=b"x")] * 3)]
    begin = time.monotonic()
    assert [one.id for one in await take(session, queue, 3)] == ids
    assert time.monotonic() - begin < 1
    assert (await session.depth(queue)).in_flight == 3


async def test_a_server_short_of_memory_stops_publishers_and_nobody_else(
    server: RabbitMQServer, broker: RabbitMQBroker, session: Session, queue: str
):
    lasting = broker.model_copy(update={"lease_seconds": 60.0})
    async with lasting.connect() as worker:
        await worker.publish(queue, [Message(body=b"x"), Message(body=b"y")])
        done, retried = await take(worker, queue, 2)
        await asyncio.to_thread(server.control, "set_vm_memory_high_watermark", "0")
        try:
            with pytest.raises(BrokerUnavailableError, match="short of memory or disk"):
                await worker.publish(queue, [Message(body=b"z")])
            stuck, freed = await worker.settle(
                [Outcome(retried, Retry(timedelta(seconds=1))), Outcome(done, Done())]
            )
            assert isinstance(stuck.error, BrokerUnavailableError)
            assert freed.error is None
            assert await worker.renew([retried]) == [retried]
        finally:
            await asyncio.to_thread(server.control, "set_vm_memory_high_watermark", "0.9")

        async def published() -> bool:
            return bool(await worker.publish(queue, [Message(body=b"z")]))

        await eventually(published, description="publishing to go on")


async def test_a_session_goes_over_to_another_node_and_back(
    server: RabbitMQServer, broker: RabbitMQBroker, session: Session, queue: str
):
    with TcpProxy(server.port) as first, TcpProxy(server.port) as second:
        async with behind(broker, first, second).connect() as worker:
            assert (first.connections, second.connections) == (1, 0)
            for gone, left in ((first, second), (second, first)):
                gone.refuse()
                gone.cut()
                await session.publish(queue, [Message(body=b"x")])
                [delivery] = await take(worker, queue)
                await worker.settle([Outcome(delivery, Done())])
                assert left.connections == 1
                gone.accept()


async def test_nodes_that_are_all_away_are_told_at_once(broker: RabbitMQBroker):
    away = broker.model_copy(update={"host": f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}"})
    with pytest.raises(BrokerUnavailableError, match="check that it runs"):
        async with asyncio.timeout(3), away.connect():
            pass


async def test_who_is_refused_does_not_knock_without_end(
    server: RabbitMQServer, broker: RabbitMQBroker, queue: str
):
    with CountingProxy(server.port) as proxy:
        async with behind(broker, proxy).connect() as session:
            await asyncio.to_thread(server.control, "change_password", "tests", "another")
            try:
                proxy.cut()
                before, end = proxy.attempts, time.monotonic() + 2
                refusals = 0
                while time.monotonic() < end:
                    with pytest.raises(BrokerRefusedError, match="check `username`"):
                        await refused(session, queue)
                    refusals += 1
                    await asyncio.sleep(0.02)
                assert refusals > 20
                assert 1 <= proxy.attempts - before <= 5
            finally:
                await asyncio.to_thread(server.control, "change_password", "tests", server.password)


async def refused(session: Session, queue: str) -> None:
    """Declare; a connection whose end has not been noticed yet doesn't count."""
    try:
        await session.declare(queue)
    except BrokerUnavailableError:
        await session.declare(queue)


async def test_a_session_ends_quickly_while_nobody_answers(
    server: RabbitMQServer, broker: RabbitMQBroker, queue: str
):
    async with broker.connect() as leaving:
        await leaving.declare(queue)
        await leaving.publish(queue, [Message(body=b"x")])
        await take(leaving, queue)
        await asyncio.to_thread(server.settle)
        server.stall()
        begin = time.monotonic()
    server.resume()
    assert time.monotonic() - begin < 8
    await comes_again(broker, queue)


async def comes_again(broker: Broker, queue: str) -> None:
    async with broker.connect() as heir:
        assert await take(heir, queue)
