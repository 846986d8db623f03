"""The SQS block: its URL, its names, what its errors say, and how it writes bodies."""

import ssl
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore import exceptions as aws
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from blocks.errors import (
    BrokerConfigurationError,
    BrokerError,
    BrokerRefusedError,
    BrokerUnavailableError,
    MessageTooLargeError,
    QueueNameError,
    UnsupportedError,
)
from blocks.message import Message
from blocks.sqs_broker import SqsBroker
from blocks.sqs_broker.errors import is_lost, translate
from blocks.sqs_broker.names import names_of, topic_name
from blocks.sqs_broker.record import read_record, record_of
from blocks.sqs_broker.sender import group_of, token_of
from blocks.sqs_broker.text import allowed, from_text, packed, to_text
from noa_flows.settings import SqsProvider

SECRET = "wJalr/K7MDENG+bPx=="


def test_the_url_of_the_settings_is_understood():
    config: dict[str, Any] = {
        "region": "eu-west-1",
        "access_key_id": "AKIA7",
        "secret_access_key": SECRET,
        "endpoint": "http://localhost:4566",
        "fifo": True,
    }
    broker = SqsBroker.from_url(SqsProvider.model_validate({"config": config}).url)
    assert broker.secret_access_key is not None
    assert broker.secret_access_key.get_secret_value() == SECRET
    assert (broker.access_key_id, broker.region, broker.fifo) == ("AKIA7", "eu-west-1", True)
    assert broker.address == "sqs://eu-west-1?endpoint=http://localhost:4566"
    assert SECRET not in repr(broker)


def test_options_of_the_url_set_fields():
    broker = SqsBroker.from_url("sqs://eu-west-1?declare=false&lease_seconds=7&fifo=true")
    assert (broker.declare, broker.lease_seconds, broker.fifo) == (False, 7.0, True)
    assert broker.address == "sqs://eu-west-1"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqs://", "region"),
        (f"sqs://AKIA7:{SECRET[-2:]}hidden@eu-west-1?what=1", "unknown options what"),
        ("sqs://AKIA7@eu-west-1", "secret_access_key"),
        ("sqs://a:hidden@eu-west-1:80", "a port or a path"),
        ("sqs://a:hidden@eu-west-1/orders", "a port or a path"),
        ("sqs://a:hidden@eu-west-1?endpoint=localhost", "endpoint"),
        ("sqs://a:hidden@eu-west-1?endpoint=http://me:hidden@localhost", "endpoint"),
        ("sqs://a:hidden@eu-west-1?lease_seconds=0", "lease_seconds"),
        ("sqs://a:hidden@[eu?fifo=maybe", "write sqs://"),
    ],
)
def test_a_wrong_url_is_refused_and_not_quoted(url: str, says: str):
    with pytest.raises(BrokerConfigurationError, match=says) as told:
        SqsBroker.from_url(url)
    assert "hidden" not in str(told.value)


def test_fields_that_contradict_each_other_are_refused():
    with pytest.raises(ValidationError, match="sse_sqs"):
        SqsBroker(region="eu-west-1", sse_sqs=True, kms_key_id="alias/noa")


def test_a_bucket_takes_larger_bodies():
    plain = SqsBroker(region="eu-west-1")
    stored = plain.model_copy(update={"large_payload_bucket": "payloads"})
    old = plain.model_copy(update={"max_message_bytes": 256 * 1024})
    assert old.capabilities.max_body_bytes < plain.capabilities.max_body_bytes < 1024 * 1024
    assert stored.capabilities.max_body_bytes == 16 * 1024 * 1024


def test_queue_names_have_their_suffixes_at_sqs():
    assert names_of("orders", fifo=False).dead == "orders-dead"
    for queue in ("orders", "orders.fifo"):
        names = names_of(queue, fifo=True)
        assert (names.main, names.dead) == ("orders.fifo", "orders-dead.fifo")
        assert names.queue == queue
    longest = names_of("x" * 70, fifo=True)
    assert len(longest.dead) == 80


@pytest.mark.parametrize("name", ["a.b", "a b", "x" * 71, "orders-dead", "orders.fifo", "ö", ""])
def test_queue_names_that_sqs_has_no_place_for_are_refused(name: str):
    with pytest.raises(QueueNameError):
        names_of(name, fifo=False)


@given(st.text("ab._-", min_size=1, max_size=8))
def test_no_two_topics_share_a_name(topic: str):
    try:
        name = topic_name(topic, fifo=False)
    except QueueNameError:
        return
    assert name.replace("__", ".") == topic


def test_topics_have_no_patterns():
    assert topic_name("orders.new.eu", fifo=True) == "orders__new__eu.fifo"
    with pytest.raises(UnsupportedError):
        topic_name("orders.*", fifo=False)


@given(st.binary(max_size=200))
def test_any_body_comes_back_from_text_that_sqs_takes(body: bytes):
    text, encoding = to_text(body)
    assert text
    assert allowed(text) == text
    assert from_text(text, encoding) == body
    assert from_text(*packed(text, encoding)) == body


def test_what_packs_to_a_bomb_is_cut():
    text, encoding = packed("x" * 20_000_000, None)
    assert len(from_text(text, encoding)) == 4 * 1024 * 1024


MESSAGES = st.builds(
    Message,
    body=st.binary(max_size=50),
    headers=st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=4),
    key=st.none() | st.text(min_size=1, max_size=9),
    generation=st.integers(0, 9),
    deliveries=st.integers(0, 9),
)


@given(MESSAGES)
def test_a_message_comes_back_from_one_attribute(message: Message):
    record = record_of(message, "m-1")
    [attribute] = record.attributes()
    assert attribute == "noa"
    raw = {
        "MessageId": "sqs-1",
        "Body": record.text,
        "MessageAttributes": record.attributes(),
        "Attributes": {"SentTimestamp": "1700000000000", "MessageGroupId": "g"},
    }
    back = read_record(raw)
    assert (back.id, back.headers, back.key) == ("m-1", dict(message.headers), message.key)
    assert (back.generation, back.deliveries) == (message.generation, message.deliveries)
    assert back.published == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


@given(MESSAGES, MESSAGES)
def test_only_a_repetition_has_the_same_token(one: Message, other: Message):
    assert (token_of(one, "m") == token_of(other, "m")) is (one == other)


@given(st.none() | st.text(min_size=1, max_size=200))
def test_every_key_has_a_group_that_sqs_takes(key: str | None):
    group = group_of(key, "m-1")
    assert 0 < len(group) <= 128
    assert group.isascii()
    assert group.isprintable()


def client_error(code: str, text: str = "", status: int = 400) -> Exception:
    response: Any = {
        "Error": {"Code": code, "Message": text},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return aws.ClientError(response, "SendMessage")


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (client_error("InvalidClientTokenId"), BrokerRefusedError, "access_key_id"),
        (client_error("SignatureDoesNotMatch"), BrokerRefusedError, "clock"),
        (client_error("ExpiredToken"), BrokerRefusedError, "temporary"),
        (client_error("KmsThrottled"), BrokerUnavailableError, "kms_reuse_seconds"),
        (client_error("RequestThrottled"), BrokerUnavailableError, "too many requests"),
        (client_error("OverLimit"), BrokerUnavailableError, "in flight"),
        (client_error("Odd", status=500), BrokerUnavailableError, "try again"),
        (client_error("Odd"), BrokerRefusedError, "Odd"),
        (client_error("AWS.X.BatchRequestTooLong"), MessageTooLargeError, "max_message_bytes"),
        (client_error("AWS.SimpleQueueService.NonExistentQueue"), BrokerRefusedError, "declare it"),
        (aws.NoCredentialsError(), BrokerConfigurationError, "no AWS credentials"),
        (aws.EndpointConnectionError(endpoint_url="e"), BrokerUnavailableError, "endpoint"),
        (aws.ReadTimeoutError(endpoint_url="e"), BrokerUnavailableError, "can't be reached"),
        (aws.SSLError(endpoint_url="e", error=ssl.SSLError()), BrokerRefusedError, "tls_ca_file"),
        (ValueError("Invalid endpoint: x"), BrokerConfigurationError, "Invalid endpoint"),
    ],
    ids=lambda value: None if isinstance(value, str | type) else str(value)[:40],
)
def test_errors_say_what_where_and_what_to_do(error: Exception, kind: type[BrokerError], says: str):
    told = translate(error, "sqs://eu-west-1")
    assert isinstance(told, kind)
    assert says in str(told)
    assert "sqs://eu-west-1" in str(told)


def test_a_long_answer_is_cut():
    told = translate(client_error("SignatureDoesNotMatch", "x" * 5_000), "sqs://eu-west-1")
    assert len(str(told)) < 600


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("ReceiptHandleIsInvalid", ""),
        ("AWS.SimpleQueueService.MessageNotInflight", ""),
        ("InvalidParameterValue", "Reason: The receipt handle has expired."),
    ],
)
def test_a_handle_that_leads_nowhere_is_a_lost_lease(code: str, text: str):
    assert is_lost(code, text)
    assert not is_lost("InternalError", "try again")
