"""Redis streams as a broker."""

from blocks.redis_broker.broker import RedisBroker

__all__ = ["RedisBroker"]
