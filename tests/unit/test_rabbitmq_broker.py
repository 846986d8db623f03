"""The block's fields, what a URL makes of them, and the names of queues."""

import subprocess
import sys
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from blocks.errors import BrokerConfigurationError, QueueNameError
from blocks.rabbitmq_broker import RabbitMQBroker
from blocks.rabbitmq_broker.delay_ladder import LONGEST_DELAY, STEPS, delay_of
from blocks.rabbitmq_broker.names import check_queue, check_topic
from noa_flows.settings.provider import RabbitMQConfig, RabbitMQProvider


def test_prefect_derives_the_slug_that_providers_are_found_by():
    assert RabbitMQBroker.get_block_type_slug() == "rabbitmq-broker"


def test_a_url_gives_every_part():
    broker = RabbitMQBroker.from_url(
        "amqps://me:p%40ss@mq1:6000,mq2/shop%2Feu?queue_type=classic&declare=false&prefetch=9"
        "&lease_seconds=7&heartbeat_seconds=8&exchange=news&tls_ca_file=/ca.pem"
    )
    assert (broker.host, broker.vhost, broker.tls) == ("mq1:6000,mq2", "shop/eu", True)
    assert (broker.username, broker.password) == ("me", SecretStr("p@ss"))
    assert (broker.queue_type, broker.declare, broker.prefetch) == ("classic", False, 9)
    assert (broker.lease_seconds, broker.heartbeat_seconds) == (7.0, 8)
    assert (broker.exchange, broker.tls_ca_file) == ("news", "/ca.pem")
    assert broker.address == "amqps://mq1:6000,mq2:5671/shop/eu"


@pytest.mark.parametrize("url", ["amqp://h", "amqp://h/", "amqp://h:5672/%2F"])
def test_a_short_url_means_the_usual_port_user_and_virtual_host(url: str):
    broker = RabbitMQBroker.from_url(url)
    assert broker.address == "amqp://h:5672/"
    assert (broker.vhost, broker.username, broker.tls) == ("/", "guest", False)


def test_an_address_of_version_6_keeps_its_brackets():
    assert RabbitMQBroker.from_url("amqp://[::1]:7000").address == "amqp://[::1]:7000/"
    assert RabbitMQBroker(host="::1").address == "amqp://[::1]:5672/"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://:secret@host", "begins with 'http'"),
        ("amqp://:secret@host:99999", "special characters"),
        ("amqp://:secret@host:port", "special characters"),
        ("amqp://:secret@a,,b", "special characters"),
        ("amqp://:secret@host?lease=3", "unknown options lease"),
        ("amqp://:secret@host?lease_seconds=0", "lease_seconds:"),
        ("amqp://:secret@host?queue_type=stream", "queue_type:"),
        ("amqp://:secret@host?prefetch", "special characters"),
    ],
)
def test_a_wrong_url_is_told_without_its_password(url: str, says: str):
    with pytest.raises(BrokerConfigurationError) as told:
        RabbitMQBroker.from_url(url)
    assert says in str(told.value)
    assert "secret" not in str(told.value)


def test_neither_the_address_nor_the_text_of_a_block_shows_the_password():
    broker = RabbitMQBroker(host="h", username="me", password=SecretStr("hidden"))
    assert "hidden" not in broker.address + repr(broker) + str(broker)


def test_the_url_of_the_settings_is_understood():
    config = RabbitMQConfig(
        hostname="q", port=5671, username="u", password=SecretStr("p/w"), vhost="a b", tls=True
    )
    broker = RabbitMQBroker.from_url(RabbitMQProvider(config=config).url)
    assert (broker.address, broker.username) == ("amqps://q:5671/a b", "u")
    assert broker.password == SecretStr("p/w")


def test_the_driver_is_not_imported_before_somebody_connects():
    code = "import sys, blocks.rabbitmq_broker, blocks.providers; sys.exit('pika' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "name",
    ["amq.x", "orders.dead", "orders.dead.lock", "orders.delay.100", "orders.*", "#", "ü" * 101],
)
def test_a_name_that_means_something_else_is_no_queue(name: str):
    with pytest.raises(QueueNameError):
        check_queue(name)


def test_a_pattern_is_no_topic_to_publish_to():
    with pytest.raises(QueueNameError, match="is a pattern"):
        check_topic("orders.*")


@given(st.timedeltas(min_value=timedelta(microseconds=1), max_value=LONGEST_DELAY))
def test_a_delay_is_never_shortened_and_only_a_little_lengthened(delay: timedelta):
    steps = delay_of(delay).steps
    waits = timedelta(milliseconds=sum(STEPS[number] for number in steps))
    assert delay <= waits <= max(delay * 17 / 16, delay + timedelta(milliseconds=100))
    assert len(steps) <= 5 or delay > LONGEST_DELAY * 15 / 16


def test_the_routing_key_of_a_delay_fits_with_the_longest_queue_name():
    longest = delay_of(LONGEST_DELAY).routing_key(check_queue("q" * 200))
    assert len(longest.encode()) <= 255
