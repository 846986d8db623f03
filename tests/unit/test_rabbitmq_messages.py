"""Messages as AMQP properties and headers: ours, and those of producers who know nothing of us."""

import math
import struct
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika import BasicProperties

from blocks.errors import MessageNotAllowedError
from blocks.message import Dead, Message
from blocks.rabbitmq_broker.connection import read_properties
from blocks.rabbitmq_broker.field_table import as_text, read_table
from blocks.rabbitmq_broker.incoming import Incoming, handle_of, to_dead_letter, to_delivery
from blocks.rabbitmq_broker.outgoing import Outgoing, encode, encode_again, encode_dead

NAMES = st.sampled_from(["id", "type", "priority", "content-type", "reply-to", "noa", "x-a", "é"])
MESSAGES = st.builds(
    Message,
    body=st.binary(max_size=50),
    headers=st.dictionaries(NAMES, st.text(max_size=300), max_size=6),
    key=st.none() | st.text(max_size=20),
    priority=st.integers(0, 9),
    deliveries=st.integers(0, 1_000),
    generation=st.integers(0, 100),
)


def over_the_wire(sent: Outgoing, *, tag: int = 1, redelivered: bool = False) -> Incoming:
    """What a channel delivers of what another one has published."""
    encoded = b"".join(sent.properties.encode())
    return Incoming(tag, redelivered, read_properties(encoded), sent.body)


def headers_of(properties: BasicProperties) -> dict[str, Any]:
    """All headers, ours included."""
    return dict(properties.headers or {})


def delivered(properties: BasicProperties, *, redelivered: bool = False, prioritised: bool = True):
    incoming = over_the_wire(Outgoing(properties, b"x"), redelivered=redelivered)
    return to_delivery("orders", incoming, None, prioritised=prioritised)


@given(message=MESSAGES)
def test_nothing_of_a_message_is_altered_on_the_way(message: Message):
    incoming = over_the_wire(encode(message, "the-id", prioritised=True))
    delivery = to_delivery("orders", incoming, None, prioritised=True)
    assert delivery.id == "the-id"
    assert (delivery.body, delivery.headers) == (message.body, message.headers)
    assert (delivery.key, delivery.priority) == (message.key, message.priority)
    assert delivery.deliveries == message.deliveries + 1
    assert delivery.generation == message.generation
    assert datetime.now(UTC) - delivery.published_at < timedelta(minutes=1)


@given(message=MESSAGES)
def test_a_message_that_is_moved_twice_is_the_same_message(message: Message):
    first = to_delivery(
        "orders",
        over_the_wire(encode(message, "the-id", prioritised=True)),
        None,
        prioritised=True,
    )
    again = over_the_wire(encode_again(first, deliveries=first.deliveries, prioritised=True))
    second = to_delivery("orders", again, None, prioritised=True)
    verdict = Dead(reason="failed", error="e" * 10_000, error_type="E", run_id="r")
    dead = over_the_wire(encode_dead(second, verdict, prioritised=True))
    letter = to_dead_letter("orders", dead, handle_of(dead) or "", prioritised=True)
    assert second.deliveries == letter.deliveries == first.deliveries + 1
    assert (letter.id, letter.body, letter.headers) == ("the-id", first.body, first.headers)
    assert (letter.key, letter.priority) == (first.key, first.priority)
    assert letter.published_at == second.published_at == first.published_at
    assert (letter.reason, letter.error_type, letter.run_id) == ("failed", "E", "r")
    assert 1_000 < len(letter.error) < 10_000


@given(st.binary(max_size=80))
def test_whatever_a_table_holds_it_can_be_read_and_shown(encoded: bytes):
    for value in read_table(encoded).values():
        assert isinstance(as_text(value), str)


@pytest.mark.parametrize(
    ("encoded", "text"),
    [
        (b"d" + struct.pack(">d", math.nan), "nan"),
        (b"d" + struct.pack(">d", 1.5), "1.5"),
        (b"f" + struct.pack(">f", -math.inf), "-inf"),
        (b"T" + struct.pack(">Q", 0), "1970-01-01T00:00:00Z"),
        (b"T" + struct.pack(">Q", 2**64 - 1), str(2**64 - 1)),
        (b"D" + struct.pack(">Bi", 2, 1999), "19.99"),
        (b"D" + struct.pack(">Bi", 255, -1), str(Decimal(-1).scaleb(-255))),
        (b"t\x01", "true"),
        (b"s" + struct.pack(">h", -2), "-2"),
        (b"V", ""),
        (b"x\x00\x00\x00\x02\xff!", "\ufffd!"),
        (b"S\x00\x00\x00\x01\xff", "\ufffd"),
        (b"A\x00\x00\x00\x03t\x00V", "[false, null]"),
        (b"F\x00\x00\x00\x04\x01kt\x01", '{"k": true}'),
    ],
)
def test_a_header_of_any_type_becomes_text_and_its_neighbour_is_read(encoded: bytes, text: str):
    table = read_table(b"\x01a" + encoded + b"\x01bS\x00\x00\x00\x02ok")
    assert as_text(table["a"]) == text
    assert table["b"] == "ok"


def test_a_type_that_nobody_knows_ends_the_table_and_not_the_connection():
    assert read_table(b"\x01at\x01\x01bZ\x00") == {"a": True}


def test_a_table_nested_beyond_all_reason_is_read_as_far_as_it_goes():
    encoded = b""
    for _ in range(10_000):
        encoded = b"\x01kF" + struct.pack(">I", len(encoded)) + encoded
        if len(encoded) > 100_000:
            break
    assert isinstance(as_text(read_table(encoded)), str)


def test_properties_around_a_strange_header_are_read():
    sent = BasicProperties(
        content_type="text/plain", content_encoding="utf-8", headers={"n": 1}, message_id="m"
    )
    encoded = b"".join(sent.encode()).replace(b"\x01nI\x00\x00\x00\x01", b"\x01nf\x7f\xc0\x00\x00")
    read = read_properties(encoded)
    assert (read.content_type, read.content_encoding, read.message_id) == (
        "text/plain",
        "utf-8",
        "m",
    )
    assert as_text(headers_of(read)["n"]) == "nan"


def test_a_body_alone_is_a_message_with_a_new_id_each_time():
    first, second = delivered(BasicProperties()), delivered(BasicProperties())
    assert first.id != second.id
    assert (first.body, first.headers, first.deliveries, first.priority) == (b"x", {}, 1, 4)


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"priority": 9}, 0),
        ({"priority": 0}, 9),
        ({"priority": 255}, 0),
        ({}, 4),
    ],
)
def test_priorities_are_turned_round_where_queues_have_them(properties: Any, expected: int):
    assert delivered(BasicProperties(**properties)).priority == expected
    assert delivered(BasicProperties(**properties), prioritised=False).priority == 4


def test_properties_are_headers_too():
    delivery = delivered(
        BasicProperties(correlation_id="c", reply_to="r", type="t", app_id="a", content_type="j")
    )
    assert delivery.headers == {
        "correlation-id": "c",
        "reply-to": "r",
        "type": "t",
        "app-id": "a",
        "content-type": "j",
    }


def test_a_delivery_count_counts_only_where_the_broker_wrote_it():
    counted = BasicProperties(headers={"x-delivery-count": 3})
    assert delivered(counted, redelivered=True).deliveries == 4
    assert delivered(counted).deliveries == 1
    nonsense = BasicProperties(headers={"noa:deliveries": "-7", "noa:generation": "9" * 40})
    assert (delivered(nonsense).deliveries, delivered(nonsense).generation) == (1, 0)


def test_stamps_are_seconds_or_ours_or_now():
    assert delivered(BasicProperties(timestamp=1_700_000_000)).published_at == datetime(
        2023, 11, 14, 22, 13, 20, tzinfo=UTC
    )
    beyond = delivered(BasicProperties(timestamp=2**64 - 1, headers={"noa:published": "soon"}))
    assert datetime.now(UTC) - beyond.published_at < timedelta(minutes=1)


def test_what_would_harm_a_moved_copy_is_left_behind():
    sent = BasicProperties(
        message_id="m", expiration="100", user_id="somebody", reply_to="amq.rabbitmq.reply-to.g1",
        headers={"CC": ["elsewhere"], "x-death": [{"count": 1}], "kept": 1},
    )  # fmt: skip
    again = encode_again(delivered(sent), deliveries=1, prioritised=False).properties
    assert (again.expiration, again.user_id, again.reply_to) == (None, None, None)
    headers = headers_of(again)
    assert headers["reply-to"] == "amq.rabbitmq.reply-to.g1"
    assert headers["kept"] == "1"
    assert not {"CC", "x-death"} & headers.keys()


def test_headers_that_are_longer_as_text_than_a_frame_give_way():
    many = BasicProperties(message_id="m", headers={f"header-{n}": True for n in range(8_000)})
    again = encode_again(delivered(many), deliveries=1, prioritised=False)
    assert sum(map(len, again.properties.encode())) < 128 * 1024


def test_whatever_is_delivered_can_be_moved():
    sent = BasicProperties(message_id="i" * 255, content_type="c" * 255, headers={"n" * 255: "x"})
    encoded = b"".join(sent.encode())
    for letter in (b"i", b"c", b"n"):
        encoded = encoded.replace(letter * 255, b"\xff" * 255)
    delivery = to_delivery(
        "orders", Incoming(1, False, read_properties(encoded), b"x"), None, prioritised=False
    )
    again = over_the_wire(encode_again(delivery, deliveries=1, prioritised=False))
    second = to_delivery("orders", again, None, prioritised=False)
    assert (second.id, len(second.id)) == (delivery.id, 64)
    assert second.headers["content-type"] == delivery.headers["content-type"]


def test_a_key_as_large_as_a_frame_does_not_keep_a_message_from_being_moved():
    own = {"noa:key": "k" * 125_000, "kept": "1"}
    delivery = delivered(BasicProperties(message_id="m", headers=own))
    verdict = Dead(reason="failed", error="é" * 100_000, run_id="r" * 100_000)
    dead = encode_dead(delivery, verdict, prioritised=False)
    assert delivery.key is None
    assert delivery.headers == {"kept": "1"}
    assert sum(map(len, dead.properties.encode())) < 128 * 1024


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (Message(body=b"", headers={"name": "\ud800"}), "header 'name'"),
        (Message(body=b"", key="\ud800"), "the key"),
        (Message(body=b"", headers={"CC": "x"}), "rename it"),
        (Message(body=b"", headers={"noa:key": "x"}), "rename it"),
        (Message(body=b"", headers={"n" * 300: "x"}), "300 bytes"),
        (Message(body=b"", headers={"n": "x" * 110_000}), "102400 at most"),
    ],
)
def test_what_rabbitmq_cannot_hold_is_told_with_its_place(message: Message, says: str):
    with pytest.raises(MessageNotAllowedError, match=says):
        encode(message, "id", prioritised=False)


@pytest.mark.parametrize("identity", ["\ud800", "i" * 300])
def test_an_id_that_is_no_short_text_is_told(identity: str):
    with pytest.raises(MessageNotAllowedError, match="the id"):
        encode(Message(body=b""), identity, prioritised=False)


def test_a_letter_that_rabbitmq_buried_itself_tells_why_and_when():
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    death = {"reason": "delivery_limit", "time": when, "queue": "orders"}
    buried = over_the_wire(Outgoing(BasicProperties(headers={"x-death": [death]}), b"x"))
    letter = to_dead_letter("orders", buried, "h", prioritised=False)
    assert (letter.reason, letter.died_at, letter.id) == ("too-many-deliveries", when, "h")
