"""The consumer flow for RabbitMQ."""

from noa_flows.consumers.consumer_flow import consumer_flow

consume_rabbitmq = consumer_flow("rabbitmq")
