"""Apache Kafka as a broker."""

from blocks.kafka_broker.broker import KafkaBroker

__all__ = ["KafkaBroker"]
