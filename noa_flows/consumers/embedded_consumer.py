"""The consumer flow for the embedded broker."""

from noa_flows.consumers.consumer_flow import consumer_flow

consume_embedded = consumer_flow("embedded")
