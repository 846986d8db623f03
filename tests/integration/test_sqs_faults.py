"""An SQS that stalls, is cut off, hangs or throttles, and consumers that are killed.

On emulators: Amazon was never asked. They keep everything in memory, so none is killed here.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from pytest_httpserver import HTTPServer

from blocks.broker import Session
from blocks.errors import BrokerRefusedError, BrokerUnavailableError, LeaseLostError
from blocks.message import Done, Message, Outcome, Release
from blocks.sqs_broker import SqsBroker
from tests.conformance.holder import holder
from tests.conformance.moves import ms, settle, take
from tests.servers.fauxqs_server import REGION, FauxqsServer
from tests.servers.proxies.tcp_proxy import TcpProxy
from tests.waiting import eventually

WAIT = timedelta(seconds=5)


@pytest.fixture(scope="module")
def server() -> Iterator[FauxqsServer]:
    with FauxqsServer() as server:
        yield server


@pytest.fixture
def proxy(server: FauxqsServer) -> Iterator[TcpProxy]:
    with TcpProxy(server.port) as proxy:
        yield proxy


def impatient(port: int, **options: object) -> SqsBroker:
    """A broker that loses patience fast, so that a test needn't have it."""
    broker = SqsBroker.from_url(
        f"sqs://test:test@{REGION}?endpoint=http://127.0.0.1:{port}&lease_seconds=2"
    )
    return broker.model_copy(update={"timeout_seconds": 1.0, "max_attempts": 2, **options})


@pytest.fixture
def broker(server: FauxqsServer) -> SqsBroker:
    return impatient(server.port)


@pytest.fixture
def queue() -> str:
    return f"orders-{uuid4().hex}"


@pytest.fixture
async def session(broker: SqsBroker, queue: str) -> AsyncIterator[Session]:
    async with broker.connect() as session:
        await session.declare(queue)
        yield session


async def consume(session: Session, queue: str, seen: Counter[str], total: int) -> None:
    """Take and settle through all faults until `total` different messages have been seen."""
    while len(seen) < total:
        try:
            held = await session.receive(queue, max_messages=20, wait=ms(200))
            seen.update(one.id for one in held)
            await session.settle([Outcome(one, Done()) for one in held])
        except BrokerUnavailableError:
            await asyncio.sleep(0.02)


async def test_a_stalled_server_hangs_nobody_and_is_used_again_at_once(
    server: FauxqsServer, session: Session, queue: str
):
    await session.publish(queue, [Message(body=b"x")])
    server.stall()
    try:
        async with asyncio.timeout(5):
            with pytest.raises(BrokerUnavailableError, match="can't be reached"):
                await session.receive(queue, max_messages=1, wait=ms(400))
            with pytest.raises(BrokerUnavailableError, match="can't be reached"):
                await session.publish(queue, [Message(body=b"y")])
    finally:
        server.resume()
    # What the lost answer held comes when its lease ends; what the driver sent again has one id.
    await asyncio.wait_for(consume(session, queue, Counter(), 2), timeout=10)


async def test_a_connection_that_hangs_is_noticed_while_a_reader_waits(
    proxy: TcpProxy, session: Session, queue: str
):
    async with impatient(proxy.port).connect() as reader:
        receiving = asyncio.create_task(reader.receive(queue, max_messages=1, wait=ms(1_000)))
        await asyncio.wait([receiving], timeout=0.3)
        proxy.stall()
        with pytest.raises(BrokerUnavailableError):
            await asyncio.wait_for(receiving, timeout=5)
        proxy.heal()
        proxy.cut()
        await reader.publish(queue, [Message(body=b"x")])
        assert len(await take(reader, queue, 1)) == 1
    assert session is not reader


async def test_stalls_and_cuts_and_a_killed_consumer_together_lose_nothing(
    server: FauxqsServer, proxy: TcpProxy, session: Session, queue: str
):
    outcomes = await session.publish(queue, [Message(body=b"x")] * 300)
    ids = {outcome.id for outcome in outcomes}
    seen: Counter[str] = Counter()
    behind = impatient(proxy.port)
    async with holder(behind, queue, 40) as held, behind.connect() as worker:
        assert set(held) <= ids
        working = asyncio.create_task(consume(worker, queue, seen, 300))
        for _ in range(3):
            proxy.cut()
            await asyncio.wait([working], timeout=0.05)
        server.stall()
        # Longer than a lease.
        await asyncio.wait([working], timeout=2.5)
        server.resume()
        proxy.refuse()
        proxy.cut()
        await asyncio.wait([working], timeout=0.3)
        proxy.accept()
    # The holder is dead by now; its forty come to whoever is left.
    await asyncio.wait_for(consume(session, queue, seen, 300), timeout=30)
    working.cancel()
    await asyncio.wait([working])
    assert set(seen) == ids


async def test_the_count_of_a_poison_message_goes_up_by_one_for_each_consumer_it_kills(
    server: FauxqsServer, session: Session, queue: str
):
    hasty = impatient(server.port, lease_seconds=1.0)
    await session.publish(queue, [Message(body=b"poison")])
    for _ in range(2):
        async with holder(hasty, queue, 1):
            pass
    [delivery] = await take(session, queue, 1)
    assert delivery.deliveries == 3


async def test_a_lease_that_ended_while_nobody_could_renew_it_is_lost(
    proxy: TcpProxy, session: Session, queue: str
):
    await session.publish(queue, [Message(body=b"x")])
    async with impatient(proxy.port, lease_seconds=1.0).connect() as cut_off:
        [held] = await take(cut_off, queue, 1)
        proxy.refuse()
        proxy.cut()
        with pytest.raises(BrokerUnavailableError):
            await cut_off.renew([held])
        [again] = await take(session, queue, 1)
        proxy.accept()
        [settled] = await cut_off.settle([Outcome(held, Done())])
        assert isinstance(settled.error, LeaseLostError)
        assert not await cut_off.renew([held])
    assert (again.id, again.deliveries) == (held.id, 2)
    await settle(session, Done(), again)


async def test_a_cancelled_receive_leaves_what_comes_for_it_to_the_next_one(
    session: Session, queue: str
):
    for _ in range(3):
        receiving = asyncio.create_task(session.receive(queue, max_messages=1, wait=WAIT))
        await asyncio.wait([receiving], timeout=0.2)
        receiving.cancel()
        await asyncio.wait([receiving])
    receiving = asyncio.create_task(session.receive(queue, max_messages=1, wait=WAIT))
    await asyncio.wait([receiving], timeout=0.2)
    [published] = await session.publish(queue, [Message(body=b"x")])
    [delivery] = await asyncio.wait_for(receiving, timeout=2)
    assert (delivery.id, delivery.deliveries) == (published.id, 1)


async def test_what_comes_for_a_cancelled_receive_goes_back_uncounted(
    server: FauxqsServer, session: Session, queue: str
):
    async with impatient(server.port, lease_seconds=60.0).connect() as fickle:
        receiving = asyncio.create_task(fickle.receive(queue, max_messages=1, wait=WAIT))
        await asyncio.wait([receiving], timeout=0.3)
        receiving.cancel()
        await asyncio.wait([receiving])
        await session.publish(queue, [Message(body=b"x")])
        [delivery] = await take(session, queue, 1)
        assert delivery.deliveries == 1


async def test_a_session_ends_while_nobody_answers_and_what_it_held_comes_again(
    proxy: TcpProxy, session: Session, queue: str, caplog: pytest.LogCaptureFixture
):
    async with asyncio.timeout(8):
        async with impatient(proxy.port).connect() as leaving:
            await session.publish(queue, [Message(body=b"x")])
            await take(leaving, queue, 1)
            proxy.refuse()
            proxy.cut()
    assert "comes again when its lease ends" in caplog.text
    [delivery] = await take(session, queue, 1)
    assert delivery.deliveries == 2


async def test_a_queue_that_is_missing_is_refused_until_it_is_declared(
    session: Session, queue: str
):
    missing = f"{queue}-2"
    with pytest.raises(BrokerRefusedError, match="declare it"):
        await session.receive(missing, max_messages=1, wait=WAIT)
    with pytest.raises(BrokerRefusedError, match="declare it"):
        await session.publish(missing, [Message(body=b"x")])
    with pytest.raises(BrokerRefusedError, match="declare it"):
        await session.depth(missing)
    await session.declare(missing)
    [outcome] = await session.publish(missing, [Message(body=b"x")])
    assert outcome.error is None


@pytest.mark.parametrize(
    ("status", "code", "error", "calls"),
    [
        (400, "ThrottlingException", BrokerUnavailableError, 2),
        (503, "ServiceUnavailable", BrokerUnavailableError, 2),
        (400, "ExpiredToken", BrokerRefusedError, 1),
        (403, "AccessDeniedException", BrokerRefusedError, 1),
        (400, "KmsAccessDenied", BrokerRefusedError, 1),
    ],
)
async def test_a_refusal_makes_no_storm_of_calls(
    httpserver: HTTPServer, status: int, code: str, error: type[Exception], calls: int
):
    """Emulators neither throttle nor let credentials expire: a stub gives these answers."""
    answered: list[str] = []

    def answer(request: object) -> object:
        from werkzeug import Request, Response

        assert isinstance(request, Request)
        operation = request.headers["X-Amz-Target"].partition(".")[2]
        if operation == "ListQueues":
            return Response("{}", content_type="application/x-amz-json-1.0")
        answered.append(operation)
        body = f'{{"__type": "com.amazonaws.sqs#{code}", "message": "told"}}'
        return Response(body, status=status, content_type="application/x-amz-json-1.0")

    httpserver.expect_request("/").respond_with_handler(answer)  # pyright: ignore[reportArgumentType]
    async with impatient(httpserver.port).connect() as session:
        with pytest.raises(error, match=code):
            await session.depth("orders")
    assert answered == ["GetQueueUrl"] * calls


async def test_releasing_many_at_once_gives_all_back(session: Session, queue: str):
    await session.publish(queue, [Message(body=b"x")] * 30)
    await settle(session, Release(), *await take(session, queue, 30))

    async def all_are_ready() -> bool:
        return (await session.depth(queue)).ready == 30

    await eventually(all_are_ready, description="all thirty to be ready")
    assert {one.deliveries for one in await take(session, queue, 30)} == {1}
