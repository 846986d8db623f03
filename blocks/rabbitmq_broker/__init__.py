"""RabbitMQ as a broker."""

from blocks.rabbitmq_broker.binding import Binding
from blocks.rabbitmq_broker.broker import RabbitMQBroker

__all__ = ["Binding", "RabbitMQBroker"]
