"""Messages as fields of entries: ours, and those of producers who know nothing of us."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.errors import MessageNotAllowedError
from blocks.message import Message
from blocks.redis_broker.entry import Receipt, encode, to_dead_letter, to_delivery

RECEIPT = Receipt(2, "1700000000123-0", 1)
NAMES = st.sampled_from(["id", "body", "priority", "dead:reason", "h:id", "content-type", "é"])
MESSAGES = st.builds(
    Message,
    body=st.binary(max_size=50),
    headers=st.dictionaries(NAMES, st.text(max_size=20), max_size=5),
    key=st.none() | st.text(max_size=20),
    priority=st.integers(0, 9),
    deliveries=st.integers(0, 1_000),
    generation=st.integers(0, 100),
)


def as_stored(*fields: str | bytes | int) -> dict[bytes, bytes]:
    """Fields as Redis gives them back."""
    values = [one if isinstance(one, bytes) else str(one).encode() for one in fields]
    return dict(zip(values[::2], values[1::2], strict=True))


@given(message=MESSAGES)
def test_no_header_can_be_taken_for_a_field_of_ours(message: Message):
    fields = as_stored(*encode(message, "the-id"))
    band = 1 if message.priority < 3 else 2 if message.priority < 7 else 3
    delivery = to_delivery("orders", Receipt(band, "1700000000123-0", 1), fields)
    assert delivery.id == "the-id"
    assert (delivery.body, delivery.headers) == (message.body, message.headers)
    assert (delivery.key, delivery.priority) == (message.key, message.priority)
    assert delivery.deliveries == message.deliveries + 1
    assert delivery.generation == message.generation


@given(fields=st.dictionaries(st.binary(max_size=12), st.binary(max_size=12), max_size=6))
def test_whatever_somebody_adds_can_be_delivered_and_shown_as_a_dead_letter(
    fields: dict[bytes, bytes],
):
    assert to_delivery("orders", RECEIPT, fields).body == fields.get(b"body", b"")
    assert to_dead_letter("orders", RECEIPT.entry, fields).queue == "orders"


def test_an_entry_added_by_hand_needs_a_body_alone():
    delivery = to_delivery("orders", RECEIPT, as_stored("body", "hello"))
    assert (delivery.id, delivery.body) == ("1700000000123-0", b"hello")
    assert (delivery.priority, delivery.deliveries, delivery.generation) == (4, 1, 0)
    assert delivery.published_at == datetime(2023, 11, 14, 22, 13, 20, 123_000, tzinfo=UTC)


def test_entries_of_one_stream_id_in_two_bands_have_two_ids():
    fields = as_stored("body", "hello")
    ids = {to_delivery("orders", Receipt(band, "1-0", 1), fields).id for band in (1, 2, 3)}
    assert len(ids) == 3


def test_fields_that_are_not_ours_become_headers():
    fields = as_stored("data", "x", "h:type", "email", "type", "ignored", "id", "7")
    delivery = to_delivery("orders", RECEIPT, fields)
    assert (delivery.id, delivery.body) == ("7", b"")
    assert delivery.headers == {"data": "x", "type": "email"}


def test_nonsense_in_our_fields_is_taken_for_nothing():
    fields = as_stored(
        *("body", "x", "priority", "77", "deliveries", "-3", "generation", "9" * 40),
        *("published", "yesterday"),
    )
    delivery = to_delivery("orders", RECEIPT, fields)
    assert (delivery.priority, delivery.deliveries, delivery.generation) == (4, 1, 0)
    assert delivery.published_at.year >= 2023


def test_an_entry_id_beyond_all_calendars_is_no_obstacle():
    receipt = Receipt(2, f"{2**64 - 1}-0", 1)
    assert to_delivery("orders", receipt, as_stored("body", "x")).published_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("message", "place"),
    [
        (Message(body=b"", headers={"name": "\ud800"}), "header 'name'"),
        (Message(body=b"", key="\ud800"), "the key"),
        (Message(body=b"", headers={str(n): "" for n in range(1_001)}), "1001 headers"),
    ],
)
def test_what_redis_cannot_hold_is_told_with_its_place(message: Message, place: str):
    with pytest.raises(MessageNotAllowedError, match=place):
        encode(message, "id")


def test_an_id_that_is_not_text_is_told():
    with pytest.raises(MessageNotAllowedError, match="the id is not valid"):
        encode(Message(body=b""), "\ud800")
