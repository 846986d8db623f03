"""A broker in one SQLite file, with nothing to install."""

from blocks.embedded_broker.broker import EmbeddedBroker

__all__ = ["EmbeddedBroker"]
