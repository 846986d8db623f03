"""The consumer flow for Redis streams."""

from noa_flows.consumers.consumer_flow import consumer_flow

consume_redis = consumer_flow("redis")
