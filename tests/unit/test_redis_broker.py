"""The block's fields, and what a URL makes of them."""

import pytest
from pydantic import SecretStr

from blocks.errors import BrokerConfigurationError, QueueNameError
from blocks.redis_broker import RedisBroker
from blocks.redis_broker.keys import HIGH, LOW, NORMAL, band_number, keys_of


def test_prefect_derives_the_slug_that_providers_are_found_by():
    assert RedisBroker.get_block_type_slug() == "redis-broker"


def test_a_url_gives_every_part():
    broker = RedisBroker.from_url(
        "rediss://me:p%40ss@example.org:6380/3?group=mail&lease_seconds=9"
    )
    assert (broker.host, broker.port, broker.db, broker.tls) == ("example.org", 6380, 3, True)
    assert (broker.username, broker.password) == ("me", SecretStr("p@ss"))
    assert (broker.group, broker.lease_seconds) == ("mail", 9.0)
    assert broker.address == "rediss://example.org:6380/3"


def test_a_short_url_means_the_usual_port_and_database():
    broker = RedisBroker.from_url("redis://localhost")
    assert (broker.port, broker.db, broker.tls) == (6379, 0, False)
    assert (broker.username, broker.password) == (None, None)


def test_a_url_names_a_unix_socket():
    broker = RedisBroker.from_url("unix://:secret@/run/redis.sock?db=2")
    assert (broker.unix_socket, broker.db) == ("/run/redis.sock", 2)
    assert broker.address == "unix:///run/redis.sock?db=2"


def test_an_address_of_version_6_keeps_its_brackets():
    broker = RedisBroker.from_url("redis://[::1]:7000/0")
    assert broker.host == "::1"
    assert broker.address == "redis://[::1]:7000/0"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://:secret@host", "begins with 'http'"),
        ("redis://:secret@host:99999", "special characters"),
        ("redis://:secret@host/first", "db:"),
        ("redis://:secret@host?lease=3", "unknown options lease"),
        ("redis://:secret@host?lease_seconds=0", "lease_seconds:"),
        ("redis://:secret@host?group", "special characters"),
    ],
)
def test_a_wrong_url_is_told_without_its_password(url: str, says: str):
    with pytest.raises(BrokerConfigurationError) as told:
        RedisBroker.from_url(url)
    assert says in str(told.value)
    assert "secret" not in str(told.value)


def test_neither_the_address_nor_the_text_of_a_block_shows_the_password():
    broker = RedisBroker(host="h", username="me", password=SecretStr("hidden"))
    assert "hidden" not in broker.address + repr(broker) + str(broker)


def test_ten_priorities_fall_into_three_bands():
    bands = [HIGH] * 3 + [NORMAL] * 4 + [LOW] * 3
    assert [band_number(priority) for priority in range(10)] == bands


def test_a_queue_lies_at_keys_that_begin_with_its_name():
    keys = keys_of("{orders}")
    assert keys.bands == ("{orders}:high", "{orders}", "{orders}:low")
    beside = ("{orders}:delayed", "{orders}:dead", "{orders}:topics", "{orders}:rate")
    assert keys.all == (*keys.bands, *beside)


@pytest.mark.parametrize("name", ["orders:high", "orders:low", "orders:delayed", "orders:dead"])
def test_a_key_of_another_queue_is_no_queue(name: str):
    with pytest.raises(QueueNameError, match="is a key of the queue 'orders'"):
        keys_of(name)
