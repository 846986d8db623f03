"""What SQS messages look like, whoever sends them; moves by SQS itself; bodies in S3.

On emulators: Amazon was never asked. fauxqs where speed matters, moto where fauxqs falls short.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import uuid4

import boto3
import pytest

from blocks.broker import Session
from blocks.errors import MessageNotAllowedError, MessageTooLargeError
from blocks.message import Dead, DeadLetter, Delivery, Done, Message, Outcome, Release, Retry
from blocks.sqs_broker import SqsBroker
from tests.conformance.moves import AT_ONCE, ms, settle, take, wait_for_depth
from tests.servers.fauxqs_server import REGION
from tests.servers.moto_server import MotoServer

BUCKET = "noa-payloads"
DEAD = Dead(reason="schema", error="to: \x00 not an address", run_id="run-7")


def broker_at(endpoint: str, **options: Any) -> SqsBroker:
    return SqsBroker.from_url(f"sqs://test:test@{REGION}?endpoint={endpoint}").model_copy(
        update=options
    )


def client(endpoint: str, service: str) -> Any:
    """A plain client, as others use it."""
    make: Any = boto3
    return make.client(
        service,
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@pytest.fixture
def queue() -> str:
    return f"orders-{uuid4().hex}"


@pytest.fixture
def endpoint(sqs_endpoint: str) -> str:
    return sqs_endpoint


@pytest.fixture
async def session(endpoint: str, queue: str) -> AsyncIterator[Session]:
    async with broker_at(endpoint).connect() as session:
        await session.declare(queue)
        yield session


@pytest.fixture
async def fifo(endpoint: str, queue: str) -> AsyncIterator[Session]:
    async with broker_at(endpoint, fifo=True).connect() as session:
        await session.declare(queue)
        yield session


class Plain:
    """A queue in the hands of somebody who knows SQS, and nothing of this package."""

    def __init__(self, endpoint: str, queue: str) -> None:
        self.sqs = client(endpoint, "sqs")
        self.url: str = self.sqs.get_queue_url(QueueName=queue)["QueueUrl"]

    def send(self, body: str, attributes: dict[str, Any] | None = None, **more: Any) -> str:
        answer = self.sqs.send_message(
            QueueUrl=self.url, MessageBody=body, MessageAttributes=attributes or {}, **more
        )
        return answer["MessageId"]

    def receive(self, **more: Any) -> list[dict[str, Any]]:
        answer = self.sqs.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], **more
        )
        return answer.get("Messages", [])


def text(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}


async def letters(session: Session, queue: str) -> list[DeadLetter]:
    return [letter async for letter in session.browse_dead(queue)]


async def test_a_plain_json_body_stays_readable_for_others(
    session: Session, endpoint: str, queue: str
):
    body = '{"type": "report", "data": {"title": "Zoë"}}'
    message = Message(body=body.encode(), headers={"tenant": "acme"}, key="k")
    [published] = await session.publish(queue, [message])
    [raw] = Plain(endpoint, queue).receive()
    assert raw["Body"] == body
    assert json.loads(raw["MessageAttributes"]["noa"]["StringValue"]) == {
        "id": published.id,
        "headers": {"tenant": "acme"},
        "key": "k",
    }


async def test_attributes_of_others_of_any_kind_become_headers(
    session: Session, endpoint: str, queue: str
):
    attributes = {
        "Tenant": text("acme"),
        "ce_type": text("noa.job.noop"),
        "count": {"DataType": "Number", "StringValue": "NaN"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\xff\x00"},
        "custom": {"DataType": "String.json", "StringValue": "[[[]]]"},
    }
    message_id = Plain(endpoint, queue).send("hello", attributes)
    [delivery] = await take(session, queue, 1)
    assert (delivery.id, delivery.body, delivery.key) == (message_id, b"hello", None)
    assert dict(delivery.headers) == {
        "tenant": "acme",
        "ce_type": "noa.job.noop",
        "count": "NaN",
        "raw": "\ufffd\x00",
        "custom": "[[[]]]",
    }
    await settle(session, Release(), delivery)
    [copy] = await take(session, queue, 1)
    assert (copy.id, copy.headers, copy.deliveries) == (message_id, delivery.headers, 1)
    assert copy.published_at == delivery.published_at


@pytest.mark.parametrize(
    "nonsense",
    [
        "not json",
        "[]",
        '{"id": 7, "headers": [], "key": {}, "deliveries": "many", "generation": -1}',
        '{"headers": {"\\ud800": {"a": [NaN]}}, "due": 1e99, "published": 99999999999999999999}',
        '{"encoding": "base64", "s3": {"bucket": 1}, "deliveries": true}',
        '{"encoding": "s3"}',
        "[" * 5_000,
    ],
)
async def test_an_attribute_that_only_looks_like_ours_breaks_nothing(
    session: Session, endpoint: str, queue: str, nonsense: str
):
    message_id = Plain(endpoint, queue).send("not base64!", {"noa": text(nonsense)})
    [delivery] = await take(session, queue, 1)
    assert (delivery.id, delivery.body) == (message_id, b"not base64!")
    assert (delivery.deliveries, delivery.generation) == (1, 0)
    await settle(session, Retry(ms(100)), delivery)
    [again] = await take(session, queue, 1)
    assert (again.id, again.deliveries) == (message_id, 2)


async def test_a_delay_beyond_what_sqs_holds_is_put_off_again_uncounted(
    session: Session, endpoint: str, queue: str
):
    [outcome] = await session.publish(queue, [Message(body=b"x", delay=timedelta(days=3))])
    assert outcome.error is None
    await wait_for_depth(session, queue, (0, 0, 1, 0))
    # As one looks whose first quarter of an hour is over.
    due = datetime.now(UTC) + timedelta(seconds=1.5)
    own = {"id": "mine", "due": int(due.timestamp() * 1_000)}
    Plain(endpoint, queue).send("y", {"noa": text(json.dumps(own))})
    [delivery] = await take(session, queue, 1)
    assert datetime.now(UTC) >= due
    assert (delivery.id, delivery.deliveries) == ("mine", 1)


async def test_a_fifo_queue_keeps_a_key_in_order_through_delays_retries_and_releases(
    fifo: Session, endpoint: str, queue: str
):
    first = Message(body=b"1", key="k", delay=timedelta(seconds=1))
    await fifo.publish(queue, [first, Message(body=b"2", key="k"), Message(body=b"other")])
    [other] = await take(fifo, queue, 1)
    assert other.body == b"other"
    counts: list[int] = []
    for verdict in (Retry(AT_ONCE), Release(), Retry(ms(500)), Release(ms(500)), Done()):
        [held] = await take(fifo, queue, 1)
        assert held.body == b"1"
        counts.append(held.deliveries)
        # What comes behind it waits.
        assert not await fifo.receive(queue, max_messages=5, wait=AT_ONCE)
        await settle(fifo, verdict, held)
    assert counts == [1, 2, 2, 3, 3]
    [second] = await take(fifo, queue, 1)
    assert second.body == b"2"
    async with broker_at(endpoint, fifo=True).connect() as another:
        await settle(fifo, Release(), second)
        [counted] = await take(another, queue, 1)
        # Here order comes first: another session sees what SQS has counted.
        assert (counted.body, counted.deliveries) == (b"2", 2)


async def test_a_fifo_queue_drops_a_repetition_and_nothing_else(fifo: Session, queue: str):
    message = Message(body=b"once", id="order-1", key="k")
    await fifo.publish(queue, [message, message])
    await fifo.publish(queue, [message])
    again = Message(body=b"once", id="order-1", key="k", headers={"noa-interrupted": "run"})
    await fifo.publish(queue, [again, Message(body=b"once", id="order-1", key="k", generation=1)])
    seen: list[Delivery] = []
    for _ in range(3):
        seen += await take(fifo, queue, 1)
        await settle(fifo, Done(), seen[-1])
    assert [(len(one.headers), one.generation) for one in seen] == [(0, 0), (1, 0), (0, 1)]
    assert not await fifo.receive(queue, max_messages=5, wait=AT_ONCE)


async def test_a_letter_that_dies_again_can_be_redriven_again(fifo: Session, queue: str):
    await fifo.publish(queue, [Message(body=b"x", key="k")])
    for generation in range(3):
        [held] = await take(fifo, queue, 1)
        assert held.generation == generation
        await settle(fifo, DEAD, held)
        [letter] = await letters(fifo, queue)
        again = Message(body=letter.body, id=letter.id, key="k", generation=generation + 1)
        assert list(await fifo.settle_dead(queue, {letter.handle: again})) == [letter.handle]


async def test_a_dead_letter_shows_its_reason_in_the_console(
    session: Session, endpoint: str, queue: str
):
    await session.publish(queue, [Message(body=b"{}")])
    await settle(session, DEAD, *await take(session, queue, 1))
    [raw] = Plain(endpoint, f"{queue}-dead").receive(VisibilityTimeout=1)
    shown = {name: value["StringValue"] for name, value in raw["MessageAttributes"].items()}
    assert shown["noa-dead-reason"] == "schema"
    assert shown["noa-dead-error"] == "to: ? not an address"
    assert (shown["noa-dead-queue"], shown["noa-dead-run-id"]) == (queue, "run-7")
    assert shown["noa-dead-deliveries"] == "1"
    assert len(shown) <= 10


async def test_what_aws_brings_back_by_itself_is_a_new_generation(
    session: Session, endpoint: str, queue: str
):
    """AWS's move task isn't known to the emulators: the letter is moved as it does, unaltered."""
    [published] = await session.publish(queue, [Message(body=b"{}", headers={"a": "b"})])
    await settle(session, DEAD, *await take(session, queue, 1))
    [raw] = Plain(endpoint, f"{queue}-dead").receive()
    Plain(endpoint, queue).send(raw["Body"], raw["MessageAttributes"])
    [back] = await take(session, queue, 1)
    assert (back.id, back.generation, back.headers) == (published.id, 1, {"a": "b"})
    await settle(session, Retry(AT_ONCE), back)
    [again] = await take(session, queue, 1)
    assert again.generation == 1
    await settle(session, Retry(ms(100)), again)
    [copy] = await take(session, queue, 1)
    assert (copy.id, copy.generation) == (published.id, 1)


@pytest.mark.parametrize("fifo_queue", [False, True])
async def test_what_sqs_moved_to_the_dead_letters_itself_says_so(
    endpoint: str, queue: str, fifo_queue: bool
):
    broker = broker_at(endpoint, fifo=fifo_queue, max_receive_count=10, lease_seconds=120.0)
    async with broker.connect() as session:
        await session.declare(queue)
        [published] = await session.publish(queue, [Message(body=b"poison", key="k")])
        plain = Plain(endpoint, queue + (".fifo" if fifo_queue else ""))
        for _ in range(10):
            assert plain.receive(VisibilityTimeout=0) or plain.receive(VisibilityTimeout=0)
        assert not await session.receive(queue, max_messages=1, wait=AT_ONCE)
        [letter] = await letters(session, queue)
        assert (letter.id, letter.reason) == (published.id, "too-many-deliveries")
        assert (letter.deliveries, letter.generation, letter.key) == (10, 0, "k")
        assert "redrive policy" in letter.error
        again = Message(body=letter.body, id=letter.id, generation=1)
        assert await session.settle_dead(queue, {letter.handle: again})
        [back] = await take(session, queue, 1)
        assert (back.id, back.generation) == (published.id, 1)


@pytest.fixture
async def stored(endpoint: str, queue: str) -> AsyncIterator[Session]:
    """A session that puts large bodies into S3."""
    await asyncio.to_thread(client(endpoint, "s3").create_bucket, Bucket=BUCKET)
    async with broker_at(endpoint, large_payload_bucket=BUCKET).connect() as session:
        await session.declare(queue)
        yield session


def objects(endpoint: str, folder: str) -> list[str]:
    """What lies in the bucket for a queue or topic."""
    found = client(endpoint, "s3").list_objects_v2(Bucket=BUCKET, Prefix=f"noa/{folder}/")
    return [one["Key"] for one in found.get("Contents", [])]


LARGE = b'"' + b"\xc3\xab" * 700_000 + b'"'


async def test_a_large_body_lies_in_s3_until_its_message_is_done(
    stored: Session, endpoint: str, queue: str
):
    [published, small] = await stored.publish(
        queue, [Message(body=LARGE, key="k"), Message(body=b"small")]
    )
    assert len(objects(endpoint, queue)) == 1
    held = {one.id: one for one in await take(stored, queue, 2)}
    assert held[str(small.id)].body == b"small"
    large = held[str(published.id)]
    for verdict in (Retry(AT_ONCE), Release(), Retry(ms(100)), DEAD):
        assert large.body == LARGE
        await settle(stored, verdict, large)
        if verdict is not DEAD:
            [large] = await take(stored, queue, 1)
    [letter] = await letters(stored, queue)
    assert (letter.body, letter.id, letter.deliveries) == (LARGE, published.id, 3)
    again = Message(body=letter.body, id=letter.id, generation=1)
    assert await stored.settle_dead(queue, {letter.handle: again})
    [back] = await take(stored, queue, 1)
    assert back.body == LARGE
    assert len(objects(endpoint, queue)) == 1
    await settle(stored, Done(), back)
    assert objects(endpoint, queue) == []


async def test_what_is_too_large_for_the_bucket_or_its_headers_is_refused(
    stored: Session, queue: str
):
    large, wordy = await stored.publish(
        queue,
        [
            Message(body=b"x" * (16 * 1024 * 1024 + 1)),
            Message(body=b"x", headers={"word": "y" * 1_100_000}),
        ],
    )
    assert isinstance(large.error, MessageTooLargeError)
    assert isinstance(wordy.error, MessageNotAllowedError)


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("private/salaries", "outside"),
        ("noa/orders/nothing-there", "NoSuchKey"),
        ("noa/orders/another", "isn't the one"),
    ],
)
async def test_a_reference_of_a_stranger_is_not_followed(
    stored: Session, endpoint: str, queue: str, key: str, problem: str
):
    s3 = client(endpoint, "s3")
    for name in ("private/salaries", "noa/orders/another"):
        s3.put_object(Bucket=BUCKET, Key=name, Body=b"secret")
    reference = {"bucket": BUCKET, "key": key, "size": 6, "sha256": "0" * 64}
    own = json.dumps({"encoding": "s3", "s3": reference})
    Plain(endpoint, queue).send("see there", {"noa": text(own)})
    [delivery] = await take(stored, queue, 1)
    assert delivery.body == b"see there"
    assert problem in delivery.headers["noa-unreadable"]
    await settle(stored, Done(), delivery)
    assert s3.get_object(Bucket=BUCKET, Key="private/salaries")["Body"].read() == b"secret"


async def test_a_large_broadcast_comes_to_every_subscriber(
    stored: Session, endpoint: str, queue: str
):
    other, topic = f"{queue}-other", f"news.t{uuid4().hex[:8]}.eu"
    await stored.declare(other)
    for name in (queue, other):
        await stored.subscribe(name, topic)
    [outcome] = await stored.broadcast(topic, [Message(body=LARGE)])
    assert outcome.error is None
    for name in (queue, other):
        [copy] = await take(stored, name, 1)
        assert (copy.id, copy.body) == (outcome.id, LARGE)
        await settle(stored, Done(), copy)
    # Nobody can tell which subscriber is the last: the bucket's lifecycle removes it.
    assert len(objects(endpoint, topic.replace(".", "__"))) == 1


async def test_a_broadcast_with_a_delay_is_held_by_whoever_receives_it(
    session: Session, queue: str
):
    topic = f"news.t{uuid4().hex[:8]}"
    await session.subscribe(queue, topic)
    due = datetime.now(UTC) + timedelta(seconds=1)
    await session.broadcast(topic, [Message(body=b"x", delay=timedelta(seconds=1))])
    [delivery] = await take(session, queue, 1)
    assert datetime.now(UTC) >= due
    assert delivery.deliveries == 1


async def test_moto_gives_out_a_batch_of_one_group_and_takes_what_fauxqs_does_not(
    moto_server: MotoServer, queue: str
):
    async with broker_at(moto_server.endpoint, fifo=True).connect() as session:
        await session.declare(queue)
        bodies = ["😀 one".encode(), b"two", b"three"]
        await session.publish(queue, [Message(body=body, key="k") for body in bodies])
        held = await take(session, queue, 3)
        assert [one.body for one in held] == bodies
        await settle(session, Done(), held[0])
        await settle(session, DEAD, held[1])
        await settle(session, Retry(AT_ONCE), held[2])
        [again] = await take(session, queue, 1)
        assert (again.body, again.deliveries) == (b"three", 2)
        [letter] = await letters(session, queue)
        assert letter.body == b"two"


async def test_a_policy_that_lets_the_topic_in_stands_beside_what_was_there(
    moto_server: MotoServer, queue: str
):
    async with broker_at(moto_server.endpoint).connect() as session:
        await session.declare(queue)
        sqs, url = (plain := Plain(moto_server.endpoint, queue)).sqs, plain.url
        theirs = {"Sid": "theirs", "Effect": "Deny", "Principal": "*", "Action": "sqs:PurgeQueue"}
        written = json.dumps({"Version": "2012-10-17", "Statement": [theirs]})
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": written})
        for topic in ("news.eu", "news.eu", "news.us"):
            await session.subscribe(queue, topic)
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])
        statements = json.loads(found["Attributes"]["Policy"])["Statement"]
        assert statements[0] == theirs
        arns = [one["Condition"]["ArnEquals"]["aws:SourceArn"] for one in statements[1:]]
        assert [arn.rpartition(":")[2] for arn in arns] == ["news__eu", "news__us"]
        subscriptions = client(moto_server.endpoint, "sns").list_subscriptions_by_topic(
            TopicArn=arns[0]
        )
        assert len(subscriptions["Subscriptions"]) == 1


async def test_a_message_that_others_have_filled_to_the_last_byte_can_be_moved(
    session: Session, endpoint: str, queue: str
):
    plain, most = Plain(endpoint, queue), 1024 * 1024
    rows = json.dumps([{"city": "Zürich", "sum": 17}] * 30_000, ensure_ascii=False)
    body = rows + " " * (most - len(rows.encode()))
    message_id = plain.send(body)
    [full] = await take(session, queue, 1)
    await settle(session, Retry(ms(100)), full)
    [copy] = await take(session, queue, 1)
    assert (copy.id, copy.body, copy.deliveries) == (message_id, body.encode(), 2)
    await settle(session, DEAD, copy)
    [letter] = await letters(session, queue)
    assert (letter.id, letter.body, letter.reason) == (message_id, body.encode(), "schema")


async def test_one_that_cannot_even_be_packed_says_so_for_itself_alone(
    session: Session, endpoint: str, queue: str
):
    random = Random(1)
    noise = "".join(random.choices([chr(code) for code in range(0x20, 0x7F)], k=1024 * 1024))
    Plain(endpoint, queue).send(noise)
    [full] = await take(session, queue, 1)
    [settled] = await session.settle([Outcome(full, DEAD)])
    assert isinstance(settled.error, MessageTooLargeError)
    # It is still held; in the end SQS itself moves it to the dead letters.
    await settle(session, Retry(AT_ONCE), full)
    await settle(session, Done(), *await take(session, queue, 1))
