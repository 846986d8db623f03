"""The providers: one line each. A reference, `redis-broker/prod` or a URL, leads to a broker."""

from collections.abc import Mapping
from importlib import import_module
from typing import Final
from urllib.parse import urlsplit

import httpx

from blocks.broker import Broker
from blocks.errors import BrokerConfigurationError, BrokerUnavailableError

#: Block type slug → where the block lives.
PROVIDERS: Final[Mapping[str, str]] = {
    "embedded-broker": "blocks.embedded_broker:EmbeddedBroker",
    "redis-broker": "blocks.redis_broker:RedisBroker",
    "kafka-broker": "blocks.kafka_broker:KafkaBroker",
}

#: URL scheme → block type slug.
SCHEMES: Final[Mapping[str, str]] = {
    "embedded": "embedded-broker",
    "kafka": "kafka-broker",
    "kafka+ssl": "kafka-broker",
    "redis": "redis-broker",
    "rediss": "redis-broker",
    "unix": "redis-broker",
}


def broker_class(slug: str) -> type[Broker]:
    """Import the block class of a provider.

    Raises:
        BrokerConfigurationError: There is no such provider.
    """
    if slug not in PROVIDERS:
        raise BrokerConfigurationError(
            f"there is no broker block {slug!r}; known: {', '.join(PROVIDERS)}"
        )
    module, _, name = PROVIDERS[slug].partition(":")
    found: type[Broker] = getattr(import_module(module), name)
    return found


async def load_broker(reference: str) -> Broker:
    """Make a broker from a URL, or load the block `<slug>/<name>` from Prefect.

    Raises:
        BrokerConfigurationError: Neither a URL of a known scheme nor the name of a saved block.
        BrokerUnavailableError: Prefect, which holds the block, can't be reached.
    """
    if "://" in reference or reference.startswith("embedded:"):
        return _from_url(reference)
    slug, _, name = reference.partition("/")
    block_class = broker_class(slug)
    if not name:
        raise BrokerConfigurationError(
            f"{reference!r} names no block; write {slug}/<block name>, or a URL"
        )
    try:
        return await block_class.aload(name)
    except ValueError as error:
        raise BrokerConfigurationError(
            f"the block {reference!r} can't be loaded: {error}; save it in Prefect's UI, or with "
            f"`prefect block create {slug}`"
        ) from error
    except httpx.HTTPError as error:
        raise BrokerUnavailableError(
            f"the block {reference!r} can't be loaded: no answer from Prefect's API ({error!r}); "
            "is the server at PREFECT_API_URL running?"
        ) from error


def _from_url(url: str) -> Broker:
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        raise BrokerConfigurationError(
            f"no provider for URLs that begin with {scheme}:; known: {', '.join(SCHEMES)}"
        )
    return broker_class(SCHEMES[scheme]).from_url(url)
